// Package plots draws what a bench.Report holds, as PNG and SVG: a picture of all
// workloads, and one of each sweep, in panels side by side; and, for others, figures
// of a few named things (Points). Points are medians over the rounds, bars reach from
// the least to the most. Axes that double are logarithmic, the legend stands above
// the panels and never on the data.
package plots
