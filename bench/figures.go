package bench

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// figure is one number that a run is judged by.
type figure struct {
	key    string // in JSON
	name   string
	unit   string
	format string
	of     func(Summary) float64 // NaN: there is none
}

var figures = []figure{
	{"wall_s", "wall", "s", "%.2f", func(s Summary) float64 { return positive(s.Wall.Seconds()) }},
	{"tokens_per_second", "tok/s", "", "%.1f", func(s Summary) float64 { return positive(s.TokensPerSecond) }},
	{"ms_per_token", "ms a token", "", "%.2f", func(s Summary) float64 { return positive(1000 / s.TokensPerSecond) }},
	{"ttft_p50_s", "TTFT p50", "s", "%.3f", seconds(func(s Summary) time.Duration { return s.TTFT.P50 })},
	{"ttft_p95_s", "TTFT p95", "s", "%.3f", seconds(func(s Summary) time.Duration { return s.TTFT.P95 })},
	{"ttft_p99_s", "TTFT p99", "s", "%.3f", seconds(func(s Summary) time.Duration { return s.TTFT.P99 })},
	{"itl_p50_ms", "ITL p50", "ms", "%.1f", milliseconds(func(s Summary) time.Duration { return s.ITL.P50 })},
	{"itl_p95_ms", "ITL p95", "ms", "%.1f", milliseconds(func(s Summary) time.Duration { return s.ITL.P95 })},
	{"itl_p99_ms", "ITL p99", "ms", "%.1f", milliseconds(func(s Summary) time.Duration { return s.ITL.P99 })},
	{"prompt_tokens", "prompt tok", "", "%.0f", func(s Summary) float64 { return float64(s.Prompt) }},
	{"cached_tokens", "cached tok", "", "%.0f", func(s Summary) float64 { return float64(s.Cached) }},
}

// StepFigure is the key of what a decode step takes, which only the engine itself
// can be asked.
const StepFigure = "step_ms"

// figureOf finds a figure by its key.
func figureOf(key string) figure {
	for _, f := range figures {
		if f.key == key {
			return f
		}
	}
	if key == StepFigure {
		return figure{key: StepFigure, name: "ms a decode step", format: "%.2f", of: func(Summary) float64 { return math.NaN() }}
	}
	panic("bench: no figure " + key)
}

// Label names a figure and its unit for a plot's axis.
func Label(key string) string {
	f := figureOf(key)
	if f.unit == "" {
		return f.name
	}
	return f.name + " (" + f.unit + ")"
}

// Head names a figure and its unit for a table's column.
func Head(key string) string {
	f := figureOf(key)
	return strings.TrimSpace(f.name + " " + f.unit)
}

func positive(x float64) float64 {
	if x > 0 && !math.IsInf(x, 1) {
		return x
	}
	return math.NaN()
}

func seconds(of func(Summary) time.Duration) func(Summary) float64 {
	return func(s Summary) float64 { return positive(of(s).Seconds()) }
}

func milliseconds(of func(Summary) time.Duration) func(Summary) float64 {
	return func(s Summary) float64 { return positive(of(s).Seconds() * 1000) }
}

// each applies the figure to every round.
func (f figure) each(rounds []Summary) []float64 {
	values := make([]float64, len(rounds))
	for i, s := range rounds {
		values[i] = f.of(s)
	}
	return values
}

// print gives a value with the figure's digits, "–" for none.
func (f figure) print(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf(f.format, x)
}

// printSpread gives the median, and the extremes where there is more than one round.
func (f figure) printSpread(s Spread, rounds int) string {
	if rounds < 2 || !s.Known() {
		return f.print(s.Median)
	}
	return fmt.Sprintf("%s (%s…%s)", f.print(s.Median), f.print(s.Min), f.print(s.Max))
}
