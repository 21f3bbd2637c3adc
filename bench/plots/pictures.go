package plots

import (
	"fmt"

	"gonum.org/v1/plot"

	"llamero/bench"
)

// runKeys are the figures that the picture of all workloads shows.
var runKeys = []string{"tokens_per_second", "ttft_p50_s", "itl_p99_ms"}

// ofRuns sets the subjects side by side for each workload.
func ofRuns(r bench.Report) (*picture, error) {
	pic := &picture{}
	var names []string
	series := map[string]int{}
	for _, run := range r.Runs {
		names = append(names, run.Workload)
		for _, s := range run.Subjects {
			if _, ok := series[s.Subject]; !ok {
				series[s.Subject] = len(pic.legend)
				pic.legend = append(pic.legend, s.Subject)
			}
		}
	}
	o := r.Runs[0].Options
	pic.title = fmt.Sprintf("%d words a prompt, %d tokens an answer; median of %d rounds, least to most", o.Words, o.Tokens, r.Rounds)
	const apart = 0.2 // between subjects, workloads being 1 apart
	for _, key := range runKeys {
		p := newPanel("", bench.Label(key))
		points := make([][]point, len(pic.legend))
		for i, run := range r.Runs {
			for _, s := range run.Subjects {
				k := series[s.Subject]
				if y := s.Spread(key); y.Known() {
					x := float64(i) + apart*(float64(k)-float64(len(pic.legend)-1)/2)
					points[k] = append(points[k], point{x, y})
				}
			}
		}
		for k := range points {
			if err := add(p, k, points[k], false); err != nil {
				return nil, err
			}
		}
		scale(&p.Y)
		p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
		p.X.Tick.Marker = labels(positions(len(names)), names)
		p.X.Tick.Length = 0
		pic.panels = append(pic.panels, p)
	}
	return pic, nil
}

// ofSweep has a panel for each figure and a line for each subject.
func ofSweep(s bench.Sweep) (*picture, error) {
	pic := &picture{title: s.Title()}
	for _, c := range s.Curves {
		pic.legend = append(pic.legend, c.Subject)
	}
	for _, key := range s.Figures {
		p := newPanel(s.Axis, bench.Label(key))
		var xs []float64
		var names []string
		for k, c := range s.Curves {
			var points []point
			for _, pt := range c.Points {
				if k == 0 {
					xs, names = append(xs, pt.Value), append(names, pt.Label)
				}
				if y, ok := pt.Figures[key]; ok {
					points = append(points, point{pt.Value, y})
				}
			}
			if err := add(p, k, points, true); err != nil {
				return nil, err
			}
		}
		if len(xs) > 0 {
			p.X.Min, p.X.Max = xs[0], xs[len(xs)-1]
			p.X.Tick.Marker = labels(xs, names)
		}
		scale(&p.Y)
		if s.Log {
			doubling(&p.X)
		}
		pic.panels = append(pic.panels, p)
	}
	return pic, nil
}

// labels are ticks at the values that were measured.
func labels(at []float64, names []string) plot.ConstantTicks {
	ticks := make(plot.ConstantTicks, len(at))
	for i, x := range at {
		ticks[i] = plot.Tick{Value: x, Label: names[i]}
	}
	return ticks
}

func positions(n int) []float64 {
	at := make([]float64, n)
	for i := range at {
		at[i] = float64(i)
	}
	return at
}
