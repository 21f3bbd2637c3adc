package plots

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"llamero/bench"
)

// decade is the range from which on an axis of figures is logarithmic: below, a line
// from 0 shows proportions better.
const decade = 8.0

// point is a figure at a place of the x axis.
type point struct {
	x float64
	y bench.Spread
}

// newPanel is a plot without data in our fonts.
func newPanel(x, y string) *plot.Plot {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = sans(11), sans(10)
		axis.Label.Padding = 3
		axis.Tick.Length = 5
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.Gray{Y: 0xd0}
	p.Add(grid)
	return p
}

// add draws the i-th subject's points; joined by a line where the x axis is a number.
func add(p *plot.Plot, i int, points []point, joined bool) error {
	if len(points) == 0 {
		return nil
	}
	var xys plotter.XYs
	var errs plotter.YErrors
	for _, pt := range points {
		xys = append(xys, plotter.XY{X: pt.x, Y: pt.y.Median})
		errs = append(errs, struct{ Low, High float64 }{pt.y.Median - pt.y.Min, pt.y.Max - pt.y.Median})
	}
	bars, err := plotter.NewYErrorBars(struct {
		plotter.XYs
		plotter.YErrors
	}{xys, errs})
	if err != nil {
		return err
	}
	bars.LineStyle = lineStyle(i)
	bars.LineStyle.Width = 1
	p.Add(bars)
	if joined {
		line, err := plotter.NewLine(xys)
		if err != nil {
			return err
		}
		line.LineStyle = lineStyle(i)
		p.Add(line)
	}
	dots, err := plotter.NewScatter(xys)
	if err != nil {
		return err
	}
	dots.GlyphStyle = glyphStyle(i)
	p.Add(dots)
	return nil
}

// scale chooses the y axis for the values that it has: from 0, or logarithmic where
// they range over a decade.
func scale(axis *plot.Axis) {
	switch {
	case math.IsInf(axis.Min, 0) || math.IsInf(axis.Max, 0): // no data
		axis.Min, axis.Max = 0, 1
		axis.Tick.Marker = even{}
	case axis.Min > 0 && axis.Max/axis.Min >= decade:
		axis.Scale = plot.LogScale{}
		axis.Min, axis.Max = axis.Min/1.2, axis.Max*1.2
		axis.Tick.Marker = oneTwoFive{}
	default:
		axis.Tick.Marker = even{}
		axis.Min, axis.Max = 0, axis.Max*1.08
		if axis.Max == 0 {
			axis.Max = 1
		}
	}
}

// steps are the digits that ticks are spaced by, in every power of ten.
var steps = []float64{1, 2, 5}

// oneTwoFive marks 1, 2 and 5 of each power of ten.
type oneTwoFive struct{}

func (oneTwoFive) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, digit := range steps {
			if v := digit * math.Pow(10, power); v >= low && v <= high {
				ticks = append(ticks, tick(v))
			}
		}
	}
	return ticks
}

// even marks four to nine places at equal distances.
type even struct{}

func (even) Ticks(low, high float64) []plot.Tick {
	power := math.Pow(10, math.Floor(math.Log10(high-low)))
	step := power / 10
	for _, wider := range []float64{power / 5, power / 2, power, power * 2} {
		if (high-low)/step > 8 {
			step = wider
		}
	}
	var ticks []plot.Tick
	for n := math.Ceil(low / step); n*step <= high; n++ {
		ticks = append(ticks, tick(n*step))
	}
	return ticks
}

func tick(v float64) plot.Tick { return plot.Tick{Value: v, Label: fmt.Sprintf("%.4g", v)} }

// doubling makes the x axis logarithmic, with room on both sides of a single value.
func doubling(axis *plot.Axis) {
	if axis.Min > 0 {
		axis.Scale = plot.LogScale{}
		if axis.Min == axis.Max {
			axis.Min, axis.Max = axis.Min/2, axis.Max*2
		}
	}
}
