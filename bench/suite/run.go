package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"llamero/bench"
	"llamero/bench/plots"
)

// Run carries the plan out. Tables go to out, progress and failed requests to
// progress. It is an error if any request failed; what was measured is printed and
// written all the same.
func (p *Plan) Run(ctx context.Context, out, progress io.Writer) error {
	err := p.run(ctx, out, progress)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("interrupted: %w", err)
	}
	return err
}

func (p *Plan) run(ctx context.Context, out, progress io.Writer) error {
	if err := p.Check(); err != nil {
		return err
	}
	var file *bench.File
	if p.JSON != "" {
		var err error
		if file, err = bench.NewFile(p.JSON); err != nil {
			return fmt.Errorf("the report: %w", err)
		}
		defer file.Discard()
	}
	if p.Plots != "" {
		if err := os.MkdirAll(p.Plots, 0o755); err != nil {
			return fmt.Errorf("the plots: %w", err)
		}
	}
	report := bench.Report{Began: time.Now().UTC(), Machine: bench.Machine(), Command: p.Command, Rounds: p.Rounds}
	subjects, stop, err := p.subjects(ctx)
	defer stop()
	if err != nil {
		return err
	}
	for _, s := range p.described(subjects) {
		report.Subjects = append(report.Subjects, s.Info())
	}
	report.WriteHead(out)
	if err := p.measure(ctx, &report, subjects, out, progress); err != nil {
		return err
	}
	if p.Plots != "" {
		names, err := plots.Write(p.Plots, report)
		if err != nil {
			return err
		}
		fmt.Fprintln(out)
		for _, name := range names {
			fmt.Fprintf(out, "written: %s\n", name)
		}
	}
	if file != nil {
		if err := file.WriteJSON(report); err != nil {
			return fmt.Errorf("the report: %w", err)
		}
		fmt.Fprintf(out, "written: %s\n", p.JSON)
	}
	return report.Failures()
}

// described are the subjects whose description belongs at the head of the report:
// those that stand, and the first of those that a sweep makes.
func (p *Plan) described(subjects []bench.Subject) []bench.Subject {
	if len(subjects) > 0 {
		return subjects
	}
	for _, s := range p.Sweeps {
		if s.Name == bench.SweepTargetITL {
			subjects = append(subjects, p.targetITL(s)[0])
		} else if s.Name == bench.SweepFill {
			subjects = append(subjects, p.Fill)
		}
	}
	return subjects
}

// measure fills the report, and prints each table once it is there.
func (p *Plan) measure(ctx context.Context, report *bench.Report, subjects []bench.Subject, out, progress io.Writer) error {
	bar := bench.NewProgress(progress, p.runs(subjects))
	defer bar.Clear()
	if len(p.Sweeps) == 0 {
		for _, w := range p.Workloads {
			run, err := bench.Measure(ctx, subjects, w.Name, w.Options, p.Rounds, p.Compare, bar)
			if err != nil {
				return err
			}
			report.Runs = append(report.Runs, run)
			bar.Clear()
			run.Write(out)
		}
	}
	for _, spec := range p.Sweeps {
		sweep, err := p.sweep(ctx, spec, subjects, bar)
		if err != nil {
			return err
		}
		report.Sweeps = append(report.Sweeps, sweep)
		bar.Clear()
		sweep.Write(out)
	}
	return nil
}

func (p *Plan) sweep(ctx context.Context, spec bench.SweepSpec, subjects []bench.Subject, bar *bench.Progress) (bench.Sweep, error) {
	w := p.Workloads[0]
	switch spec.Name {
	case bench.SweepFill:
		return p.Fill.MeasureFill(ctx, spec, bar)
	case bench.SweepTargetITL:
		return bench.MeasureEach(ctx, spec, p.targetITL(spec), w.Name, w.Options, p.Rounds, bar)
	}
	return bench.MeasureSweep(ctx, spec, subjects, w.Name, w.Options, p.Rounds, bar)
}
