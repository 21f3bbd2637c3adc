package plots

import (
	"fmt"
	"os"
	"path/filepath"

	"llamero/bench"
)

// Points are figures of a few things, side by side: a panel for each figure.
type Points struct {
	Title  string
	Names  []string // of the things
	Panels []PointPanel
}

// PointPanel is one figure.
type PointPanel struct {
	Label  string
	Values []bench.Spread // one a name; unknown ones leave a gap
}

// WritePoints draws into a folder, as PNG and SVG, and returns the files' names.
func WritePoints(dir, name string, f Points) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	pic := &picture{title: f.Title}
	for k, panel := range f.Panels {
		if len(panel.Values) != len(f.Names) {
			return nil, fmt.Errorf("plot of %s: %d values for %d names", panel.Label, len(panel.Values), len(f.Names))
		}
		p := newPanel("", panel.Label)
		var points []point
		for i, v := range panel.Values {
			if v.Known() {
				points = append(points, point{float64(i), v})
			}
		}
		if err := add(p, k, points, false); err != nil {
			return nil, fmt.Errorf("plot of %s: %w", panel.Label, err)
		}
		scale(&p.Y)
		p.X.Min, p.X.Max = -0.5, float64(len(f.Names))-0.5
		p.X.Tick.Marker = labels(positions(len(f.Names)), f.Names)
		p.X.Tick.Length = 0
		pic.panels = append(pic.panels, p)
	}
	return save(filepath.Join(dir, name), pic)
}
