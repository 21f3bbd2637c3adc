package suite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"llamero/bench"
	"llamero/bench/raw"
)

// Endpoint is a server to measure: one that runs already, or a program to start.
type Endpoint struct {
	At    string   // URL or program; "": there is none
	Args  []string // further ones, of a program
	Model string   // of a URL; "": the first that it lists
	Key   string   // API key; "": none is sent
}

func (e Endpoint) none() bool { return e.At == "" }

// IsURL tells a server that runs already from a program.
func IsURL(at string) bool {
	return strings.HasPrefix(at, "http://") || strings.HasPrefix(at, "https://")
}

// Plan is one invocation.
type Plan struct {
	Command []string // as it was typed, for the report
	Target  Endpoint
	Peer    Endpoint
	Serving bench.Serving // of servers that are started
	Raw     *raw.Child    // nil: the engine alone is not measured, but by a sweep over fill
	Fill    *raw.Child    // nil: no sweep over fill

	Workloads []Workload
	Sweeps    []bench.SweepSpec // of the first workload; with any, workloads are not run by themselves
	Rounds    int
	Compare   bool

	JSON  string // file; "": none
	Plots string // folder; "": none
}

// Workload is a workload with its options.
type Workload struct {
	Name    string
	Options bench.Options
}

// own says whether a sweep starts its subjects itself.
func own(s bench.SweepSpec) bool { return s.Name == bench.SweepTargetITL || s.Name == bench.SweepFill }

// standing says whether the plan needs subjects that run throughout.
func (p *Plan) standing() bool {
	if len(p.Sweeps) == 0 {
		return true
	}
	for _, s := range p.Sweeps {
		if !own(s) {
			return true
		}
	}
	return false
}

// subjects starts the servers of the plan. stop ends those that have been started,
// whatever else is returned.
func (p *Plan) subjects(ctx context.Context) (subjects []bench.Subject, stop func(), err error) {
	var started []*bench.Served
	stop = func() {
		for _, s := range started {
			s.Stop()
		}
	}
	if !p.standing() {
		return nil, stop, nil
	}
	for _, start := range []func(context.Context) (*bench.Served, error){p.startTarget, p.startPeer} {
		s, err := start(ctx)
		if err != nil {
			return nil, stop, err
		}
		if s == nil {
			continue
		}
		started = append(started, s)
		subjects = append(subjects, s)
		if err := s.Warm(ctx); err != nil {
			return nil, stop, err
		}
	}
	if p.Raw != nil {
		subjects = append(subjects, p.Raw)
	}
	return subjects, stop, nil
}

func (p *Plan) startTarget(ctx context.Context) (*bench.Served, error) {
	if p.Target.none() {
		return nil, nil
	}
	if IsURL(p.Target.At) {
		return bench.Connect(ctx, "target", p.Target.At, p.Target.Model, p.Target.Key)
	}
	return withKey(p.Target)(bench.StartLlamero(ctx, p.Target.At, p.Serving, p.Target.Args...))
}

func (p *Plan) startPeer(ctx context.Context) (*bench.Served, error) {
	if p.Peer.none() {
		return nil, nil
	}
	if IsURL(p.Peer.At) {
		return bench.Connect(ctx, "peer", p.Peer.At, p.Peer.Model, p.Peer.Key)
	}
	return withKey(p.Peer)(bench.StartLlamaServer(ctx, p.Peer.At, p.Serving, p.Peer.Args...))
}

func withKey(e Endpoint) func(*bench.Served, error) (*bench.Served, error) {
	return func(s *bench.Served, err error) (*bench.Served, error) {
		if s != nil {
			s.Key = e.Key
		}
		return s, err
	}
}

// targetITL are subjects that start Llamero anew, each with a target of its own.
func (p *Plan) targetITL(spec bench.SweepSpec) []bench.Subject {
	var subjects []bench.Subject
	for _, ms := range spec.Values {
		at := *p
		at.Serving.TargetITL = time.Duration(ms * float64(time.Millisecond))
		subjects = append(subjects, &bench.Restarting{
			About: bench.Info{Name: "llamero", Command: []string{at.Target.At, "serve", "…", "--target-itl", at.Serving.TargetITL.String()}},
			Start: at.startTarget,
		})
	}
	return subjects
}

// runs counts what a progress bar counts.
func (p *Plan) runs(subjects []bench.Subject) int {
	n := 0
	if len(p.Sweeps) == 0 {
		for _, w := range p.Workloads {
			n += p.Rounds * len(bench.Takers(subjects, w.Name))
		}
	}
	for _, s := range p.Sweeps {
		switch s.Name {
		case bench.SweepFill:
			n += len(p.Fill.Layouts())
		case bench.SweepTargetITL:
			n += p.Rounds * len(s.Values)
		default:
			n += p.Rounds * len(s.Values) * len(bench.Takers(subjects, p.Workloads[0].Name))
		}
	}
	return n
}

// Check says what does not go together.
func (p *Plan) Check() error {
	if p.Target.none() && p.Peer.none() && p.Raw == nil && p.standing() {
		return fmt.Errorf("there is nothing to measure: no target, no peer, no raw engine")
	}
	return nil
}
