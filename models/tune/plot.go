package tune

import (
	"fmt"

	"llamero/bench"
	"llamero/bench/plots"
)

// Plot draws the report into a folder, as PNG and SVG, and returns the files' names.
func (r *Report) Plot(dir string) ([]string, error) {
	points := plots.Points{Title: fmt.Sprintf("%s on llama.cpp %s, threads %d; median of %d rounds, least to most; * is the source", r.name(), r.LlamaCPP, r.Threads, r.Rounds)}
	for _, f := range r.Files {
		name := f.Type
		if f.Source {
			name += "*"
		}
		points.Names = append(points.Names, name)
	}
	panel := func(label string, of func(File) bench.Spread) {
		p := plots.PointPanel{Label: label}
		for _, f := range r.Files {
			p.Values = append(p.Values, of(f))
		}
		points.Panels = append(points.Panels, p)
	}
	panel("prefill, tok/s", func(f File) bench.Spread { return f.Prefill })
	panel("decode, 8 streams, tok/s", func(f File) bench.Spread { return f.Batch })
	panel("mean KL, nats", func(f File) bench.Spread {
		if f.Source {
			return bench.NewSpread(nil)
		}
		return bench.NewSpread([]float64{f.Quality.KL})
	})
	return plots.WritePoints(dir, "tune", points)
}
