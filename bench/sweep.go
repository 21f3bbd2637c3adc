package bench

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Sweep is a curve for each subject: figures against the values of an option.
type Sweep struct {
	Name     string   `json:"name"`
	Axis     string   `json:"axis"`            // the option with its unit
	Log      bool     `json:"log"`             // the values double
	About    string   `json:"about,omitempty"` // what is measured, where it is no workload
	Workload string   `json:"workload,omitempty"`
	Options  Options  `json:"options"` // but for the one that varies
	Figures  []string `json:"figures"` // keys; see Head
	Curves   []Curve  `json:"curves"`
}

// Curve is one subject's.
type Curve struct {
	Subject string  `json:"subject"`
	Points  []Point `json:"points"`
}

// Point is what one value gave.
type Point struct {
	Value   float64           `json:"value"`
	Label   string            `json:"label"`
	Figures map[string]Spread `json:"figures"` // without those that are not known
	Rounds  []Summary         `json:"rounds,omitempty"`
	Errors  []string          `json:"errors,omitempty"` // the first few
}

// New returns the sweep without its curves.
func (s SweepSpec) New(workload string, o Options) Sweep {
	kind := sweeps[s.Name]
	return Sweep{Name: s.Name, Axis: kind.axis, Log: kind.log, Workload: workload, Options: o, Figures: kind.figures}
}

// MeasureSweep runs a workload on the subjects that take it at each value of one of
// its options.
func MeasureSweep(ctx context.Context, spec SweepSpec, subjects []Subject, workload string, o Options, rounds int, p *Progress) (Sweep, error) {
	sw := spec.New(workload, o)
	for _, s := range Takers(subjects, workload) {
		sw.Curves = append(sw.Curves, Curve{Subject: s.Info().Name})
	}
	for i := range spec.Values {
		run, err := Measure(ctx, subjects, workload, spec.Apply(o, i), rounds, false, p)
		if err != nil {
			return sw, fmt.Errorf("%s=%s: %w", spec.Name, spec.Labels[i], err)
		}
		for k, s := range run.Subjects {
			sw.Curves[k].Points = append(sw.Curves[k].Points, sw.point(spec, i, s))
		}
	}
	return sw, nil
}

// MeasureEach runs a workload on subjects of which each stands for a value of the
// sweep, in alternating rounds, and makes one curve of them.
func MeasureEach(ctx context.Context, spec SweepSpec, subjects []Subject, workload string, o Options, rounds int, p *Progress) (Sweep, error) {
	sw := spec.New(workload, o)
	run, err := Measure(ctx, subjects, workload, o, rounds, false, p)
	if err != nil {
		return sw, fmt.Errorf("%s: %w", spec.Name, err)
	}
	curve := Curve{Subject: subjects[0].Info().Name}
	for i, s := range run.Subjects {
		curve.Points = append(curve.Points, sw.point(spec, i, s))
	}
	sw.Curves = []Curve{curve}
	return sw, nil
}

func (s Sweep) point(spec SweepSpec, i int, run SubjectRun) Point {
	p := Point{Value: spec.Values[i], Label: spec.Labels[i], Figures: map[string]Spread{}, Rounds: run.Rounds, Errors: run.Errors}
	for _, key := range s.Figures {
		if x := run.Spread(key); x.Known() {
			p.Figures[key] = x
		}
	}
	return p
}

// Title says what does not vary.
func (s Sweep) Title() string {
	if s.Workload == "" {
		return s.About
	}
	parts := []string{"workload " + s.Workload}
	for _, option := range []struct {
		name, about string
		value       int
	}{{"clients", "clients", s.Options.Clients}, {"words", "words a prompt", s.Options.Words}, {"tokens", "tokens an answer", s.Options.Tokens}} {
		if option.name != s.Name {
			parts = append(parts, fmt.Sprintf("%d %s", option.value, option.about))
		}
	}
	return strings.Join(parts, ", ")
}

// Write prints the sweep as a table, a row for each value.
func (s Sweep) Write(w io.Writer) {
	fmt.Fprintf(w, "\n### sweep over %s\n\n", s.Name)
	fmt.Fprintf(w, "%s.\n\n", s.Title())
	head := []string{s.Axis}
	failed := false
	for _, c := range s.Curves {
		for _, key := range s.Figures {
			head = append(head, c.Subject+" "+Head(key))
		}
		for _, p := range c.Points {
			failed = failed || len(p.Errors) > 0
		}
	}
	if failed {
		head = append(head, "errors")
	}
	t := NewTable(head...)
	for i, p := range s.longest().Points {
		row, errs := []string{p.Label}, 0
		for _, c := range s.Curves {
			for _, key := range s.Figures {
				cell := "–"
				if i < len(c.Points) {
					if x, ok := c.Points[i].Figures[key]; ok {
						cell = figureOf(key).printSpread(x, len(c.Points[i].Rounds))
					}
				}
				row = append(row, cell)
			}
			if i < len(c.Points) {
				failed, _ := SubjectRun{Rounds: c.Points[i].Rounds}.Failed()
				errs += failed
			}
		}
		if failed {
			row = append(row, fmt.Sprint(errs))
		}
		t.Row(row...)
	}
	t.Write(w)
}

func (s Sweep) longest() (longest Curve) {
	for _, c := range s.Curves {
		if len(c.Points) >= len(longest.Points) {
			longest = c
		}
	}
	return longest
}
