package scheduler

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// world drives a scheduler with a fake engine in simulated time.
type world struct {
	t      testing.TB
	s      *Scheduler
	f      *enginetest.Fake
	now    Tick
	got    map[ID][][]engine.Token
	scores map[ID][]engine.Sampled
	done   map[ID][]Finish
	order  []ID // of first admissions
	steps  int
	turn   int // of step, whether there was anything to do or not

	remoteTier

	onPlan   func(engine.Plan)                  // before it runs
	onOutput func(*engine.Plan, *engine.Output) // before it is applied
	onEvents func([]Event)
	onFail   func(engine.Plan, error) // before the scheduler is told

	execute func(engine.Plan, func(engine.Output)) error // runs a plan; nil: the engine does
	relay   func([]Event) []Event                        // what of the scheduler's events arrives; nil: all
}

func newWorld(t testing.TB, cfg Config) *world {
	if cfg.Queue == 0 {
		cfg.Queue = 1000
	}
	if cfg.TargetITL == 0 {
		cfg.TargetITL = 50e6
	}
	if l := cfg.Limits; l.Pages > 0 && cfg.Pages == nil {
		lru, err := store.NewLRU(l.Pages)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Pages = cache.NewHost(l.Pages, l.PageTokens, lru).View()
	}
	w := &world{t: t, s: New(cfg), f: enginetest.NewFake(cfg.Limits),
		got: map[ID][][]engine.Token{}, scores: map[ID][]engine.Sampled{}, done: map[ID][]Finish{}}
	w.calibrate()
	return w
}

func (w *world) calibrate() {
	c := w.s.Calibrate()
	for {
		p, ok := c.Next()
		if !ok {
			break
		}
		if err := w.f.Step(context.Background(), p, c.Observe); err != nil {
			w.t.Fatal("calibration: ", err)
		}
	}
	c.Close()
}

func (w *world) add(r Request) {
	w.t.Helper()
	if err := w.submit(r); err != nil {
		w.t.Fatal(err)
	}
}

// submit adds a request that may be refused.
func (w *world) submit(r Request) error {
	if err := w.s.Add(r); err != nil {
		return err
	}
	n := max(1, r.Choices)
	w.got[r.ID] = make([][]engine.Token, n)
	w.done[r.ID] = make([]Finish, n)
	return nil
}

func (w *world) take(events []Event) {
	w.t.Helper()
	if w.relay != nil {
		events = w.relay(events)
	}
	for _, e := range events {
		if w.done[e.ID][e.Choice] != FinishNone {
			w.t.Fatalf("request %d, choice %d: event %d after its end", e.ID, e.Choice, e.Kind)
		}
		switch e.Kind {
		case EventAdmitted:
			if !slices.Contains(w.order, e.ID) {
				w.order = append(w.order, e.ID)
			}
		case EventTokens:
			for _, t := range e.Tokens {
				w.got[e.ID][e.Choice] = append(w.got[e.ID][e.Choice], t.Token)
			}
			w.scores[e.ID] = append(w.scores[e.ID], e.Scores...)
		case EventDone:
			w.done[e.ID][e.Choice] = e.Finish
		}
	}
	if w.onEvents != nil && len(events) > 0 {
		w.onEvents(events)
	}
}

// step plans and runs one step; it reports whether there was anything to do.
func (w *world) step() bool {
	w.t.Helper()
	plan, ok := w.begin()
	if ok {
		w.finish(plan)
	}
	w.check()
	return ok
}

// begin plans a step, if there is anything to do.
func (w *world) begin() (engine.Plan, bool) {
	w.t.Helper()
	w.turn++
	plan, events := w.s.Next(w.now)
	w.take(events)
	if plan.Step == 0 {
		return plan, false
	}
	w.steps++
	if w.onPlan != nil {
		w.onPlan(plan)
	}
	return plan, true
}

// finish runs a step that has been planned.
func (w *world) finish(plan engine.Plan) {
	w.t.Helper()
	execute := w.execute
	if execute == nil {
		execute = w.compute
	}
	err := execute(plan, func(out engine.Output) {
		w.now += Tick(out.Nanos)
		if w.onOutput != nil {
			w.onOutput(&plan, &out)
		}
		events, err := w.s.Apply(out, w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		w.take(events)
	})
	w.publish()
	if err != nil {
		if errors.Is(err, engine.ErrPlan) || errors.Is(err, engine.ErrNoRoom) {
			w.t.Fatalf("step %d: %v", plan.Step, err)
		}
		if errors.Is(err, engine.ErrLost) {
			w.f.Restart()
		}
		if w.onFail != nil {
			w.onFail(plan, err)
		}
		w.take(w.s.Fail(err, w.now))
	}
}

// compute has the engine run a plan.
func (w *world) compute(p engine.Plan, emit func(engine.Output)) error {
	return w.f.Step(context.Background(), p, emit)
}

// until steps until a condition holds; it fails the test when there is nothing
// left to do before.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for !holds() {
		if !w.step() {
			w.t.Fatalf("nothing left to do, but never %s", what)
		}
	}
}

func (w *world) check() {
	w.t.Helper()
	if err := w.s.Check(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) run() {
	w.t.Helper()
	for i := 0; w.step(); i++ {
		if i > 100000 {
			w.t.Fatal("no end")
		}
	}
	if st := w.s.Stats(); st.Running != 0 || st.Waiting != 0 || st.Queued != 0 {
		w.t.Fatalf("left over: %+v", st)
	}
	for id, fs := range w.done {
		for c, f := range fs {
			if f == FinishNone {
				w.t.Fatalf("request %d, choice %d never ended", id, c)
			}
		}
	}
}

func prompt(seed uint64, n int) []engine.Token {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]engine.Token, n)
	for i := range p {
		p[i] = engine.Token(r.IntN(1000))
	}
	return p
}

// expect compares what a request got with what the fake answers by itself.
func (w *world) expect(r Request) {
	w.t.Helper()
	n := r.MaxTokens
	if n == 0 {
		n = w.s.cfg.Limits.SlotTokens - len(r.Prompt)
	}
	n = min(n, w.s.cfg.Limits.SlotTokens-len(r.Prompt))
	for c := range max(1, r.Choices) {
		s := r.Sampling
		s.Choice += int32(c)
		want := w.f.Reference(r.Prompt, s, n, r.Stop...)
		got := w.got[r.ID][c]
		switch w.done[r.ID][c] {
		case FinishLength, FinishStop:
			if !slices.Equal(got, want) {
				w.t.Errorf("request %d, choice %d: %d tokens differ from the reference's %d:\n got %v\nwant %v", r.ID, c, len(got), len(want), got, want)
			}
			if wantStop := len(want) < n; wantStop != (w.done[r.ID][c] == FinishStop) {
				w.t.Errorf("request %d, choice %d finished with %v after %d of %d tokens", r.ID, c, w.done[r.ID][c], len(got), n)
			}
		default: // cancelled, expired: a prefix
			if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
				w.t.Errorf("request %d, choice %d: tokens before its end differ from the reference", r.ID, c)
			}
		}
	}
}

func (w *world) expectScores(r Request) {
	w.t.Helper()
	got := w.scores[r.ID]
	if len(got) != len(r.Prompt)-1 {
		w.t.Fatalf("request %d: %d scores for a prompt of %d", r.ID, len(got), len(r.Prompt))
	}
	for i, s := range got {
		if s.Token != r.Prompt[i+1] {
			w.t.Fatalf("request %d: score %d is of token %d, the prompt has %d", r.ID, i, s.Token, r.Prompt[i+1])
		}
	}
}

// kill has the engine lost in its next step, which it had begun, and tells when
// it has been.
func (w *world) kill() (dead *bool) {
	dead = new(bool)
	w.f.Fail = func(uint64, int) error {
		if *dead {
			return nil
		}
		*dead = true
		return &engine.LostError{Reason: "killed", Begun: true, Edited: true}
	}
	return dead
}
