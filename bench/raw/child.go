package raw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"llamero/bench"
	"llamero/engine"
	"llamero/engine/child"
	"llamero/engine/llama"
)

// Name is what the subject is called.
const Name = "raw"

// Child is a subject that runs each workload on an engine in a process of its own.
type Child struct {
	Argv     []string // starts a process that calls Main
	Engine   llama.Options
	Template string
	Version  string
}

var _ bench.Subject = (*Child)(nil)

// Info implements bench.Subject.
func (c *Child) Info() bench.Info {
	return bench.Info{Name: Name, Version: c.Version, Command: c.Argv, Model: c.Engine.Model}
}

// Takes implements bench.Subject. What depends on earlier answers or on the clock is
// not for an engine without a scheduler.
func (c *Child) Takes(workload string) bool { return workload != "turns" && workload != "poisson" }

// Run implements bench.Subject.
func (c *Child) Run(ctx context.Context, w bench.Workload) (bench.Result, error) {
	reply, err := c.call(ctx, Spec{Engine: c.Engine, Template: c.Template, Workload: &w})
	if err != nil {
		return bench.Result{}, err
	}
	if reply.Result == nil {
		return bench.Result{}, errors.New("the reply has no result")
	}
	return *reply.Result, nil
}

// call runs a Spec in a child process.
func (c *Child) call(ctx context.Context, spec Spec) (Reply, error) {
	var reply Reply
	err := child.Run(ctx, c.Argv, spec, func(d *json.Decoder) error { return d.Decode(&reply) })
	return reply, err
}

// Defaults of the sweep over the pool's fill.
const (
	fillStreams = 8
	fillSteps   = 48
	// fillLimit bounds a sweep. Filling the unified layout takes a time that
	// grows with the square of the pool: every token attends to all cells in use.
	fillLimit = time.Hour
)

// Layouts are what a sweep over the fill measures: both, unless one was chosen.
func (c *Child) Layouts() []engine.Layout {
	if c.Engine.Layout != 0 {
		return []engine.Layout{c.Engine.Layout}
	}
	return []engine.Layout{engine.Split, engine.Unified}
}

// MeasureFill makes a curve for each layout: what a decode step of a few streams
// takes while the pool that the settings make is filled by others. The streams' own
// slots come on top of it.
func (c *Child) MeasureFill(ctx context.Context, spec bench.SweepSpec, p *bench.Progress) (bench.Sweep, error) {
	sweep := spec.New("", bench.Options{})
	sweep.About = fmt.Sprintf("%d streams decode while %d slots of %d tokens fill up", fillStreams, c.Engine.Slots, c.Engine.SlotTokens)
	ctx, cancel := context.WithTimeoutCause(ctx, fillLimit, fmt.Errorf("filling the pool took longer than %s: try fewer --slots or a smaller --context", fillLimit))
	defer cancel()
	for _, layout := range c.Layouts() {
		o := c.Engine
		o.Layout = layout
		o.KVBudget += o.KVBudget / int64(o.Slots) * fillStreams
		o.Slots += fillStreams
		name := fmt.Sprintf("%s, %s layout", Name, layout)
		p.Begin("pool fill: " + name)
		reply, err := c.call(ctx, Spec{Engine: o, Template: c.Template, Fill: &Fill{Streams: fillStreams, Shares: spec.Values, Steps: fillSteps}})
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if err != nil {
			return sweep, fmt.Errorf("fill: %w", err)
		}
		if len(reply.Fill) != len(spec.Values) {
			return sweep, fmt.Errorf("fill: %d points for %d values", len(reply.Fill), len(spec.Values))
		}
		curve := bench.Curve{Subject: name}
		for i, f := range reply.Fill {
			curve.Points = append(curve.Points, bench.Point{Value: f.Share, Label: spec.Labels[i],
				Figures: map[string]bench.Spread{bench.StepFigure: f.Step}})
		}
		sweep.Curves = append(sweep.Curves, curve)
		p.End(fmt.Sprintf("pool fill: %s: %s ms a step at %s", name, reply.Fill[len(reply.Fill)-1].Step, spec.Labels[len(spec.Labels)-1]))
	}
	return sweep, nil
}
