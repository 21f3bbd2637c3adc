// Package suite is what the command `llamero bench` does: it starts the servers that
// a Plan names, measures them and the raw engine in alternating rounds of one run,
// prints tables, writes JSON and plots, and stops what it has started.
package suite
