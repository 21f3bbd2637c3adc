package scheduler

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

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
}

func newWorld(t testing.TB, cfg Config) *world {
	if cfg.Queue == 0 {
		cfg.Queue = 1000
	}
	if cfg.TargetITL == 0 {
		cfg.TargetITL = 50e6
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
	if err := w.s.Add(r); err != nil {
		w.t.Fatal(err)
	}
	n := max(1, r.Choices)
	w.got[r.ID] = make([][]engine.Token, n)
	w.done[r.ID] = make([]Finish, n)
}

func (w *world) take(events []Event) {
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
}

// step plans and runs one step; it reports whether there was anything to do.
func (w *world) step() bool {
	w.t.Helper()
	plan, events := w.s.Next(w.now)
	w.take(events)
	if len(plan.Passes) == 0 {
		w.check()
		return false
	}
	w.steps++
	err := w.f.Step(context.Background(), plan, func(out engine.Output) {
		w.now += Tick(out.Nanos)
		events, err := w.s.Apply(out, w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		w.take(events)
	})
	if err != nil {
		if errors.Is(err, engine.ErrPlan) || errors.Is(err, engine.ErrNoRoom) {
			w.t.Fatalf("step %d: %v", plan.Step, err)
		}
		w.take(w.s.Fail(err, w.now))
	}
	w.check()
	return true
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

// axes are what must not change a request's tokens.
type axes struct {
	layout     engine.Layout
	slots      int
	slotTokens int
	pool       int
	passTokens int
	trims      bool
	target     int64
	failEvery  uint64
	cancels    bool
	stranger   bool
}

func (a axes) limits() engine.Limits {
	l := enginetest.DefaultLimits(a.layout)
	l.Slots, l.SlotTokens, l.PassTokens, l.Trims = a.slots, a.slotTokens, a.passTokens, a.trims
	l.PoolTokens = l.Slots * l.SlotTokens
	if a.layout == engine.Unified {
		l.PoolTokens = max(a.pool, a.slotTokens)
	} else {
		l.Scratch = (a.slots+3)/4*4 - a.slots
	}
	l.PassOutputs = max(l.Slots+l.Scratch, 16)
	return l
}

func randomAxes(r *rand.Rand) axes {
	return axes{
		layout: []engine.Layout{engine.Split, engine.Unified}[r.IntN(2)],
		slots:  1 + r.IntN(13), slotTokens: 64 + r.IntN(200), pool: 64 + r.IntN(1200),
		passTokens: 16 + r.IntN(120), trims: r.IntN(5) > 0, target: int64(5+r.IntN(200)) * 1e6,
		failEvery: uint64(r.IntN(3) * (3 + r.IntN(20))), cancels: r.IntN(2) == 0, stranger: r.IntN(2) == 0,
	}
}

// TestMetamorphic: whatever the machine looks like and whatever happens beside
// it, a request's tokens are the reference's.
func TestMetamorphic(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	for seed := range uint64(n) {
		if !metamorphic(t, seed) {
			t.Fatalf("reproduce with: go test ./scheduler -run 'TestMetamorphicSeed' -seed %d", seed)
		}
	}
}

func metamorphic(t *testing.T, seed uint64) bool {
	r := rand.New(rand.NewPCG(seed, 2))
	a := randomAxes(r)
	ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
		w := newWorld(t, Config{Limits: a.limits(), TargetITL: a.target})
		w.f.EOG, w.f.EOGEvery = 7, 20
		if a.failEvery > 0 {
			w.f.Fail = func(step uint64, pass int) error {
				if step%a.failEvery == a.failEvery-1 && r.IntN(2) == 0 {
					return errors.New("injected")
				}
				return nil
			}
		}
		var requests []Request
		for i := range 1 + r.IntN(14) {
			q := Request{
				ID:        ID(i + 1),
				Tenant:    fmt.Sprint("t", r.IntN(3)),
				Priority:  r.IntN(3) - 1,
				Prompt:    prompt(seed*100+uint64(i), 1+r.IntN(a.slotTokens-2)),
				MaxTokens: r.IntN(40),
				Choices:   1 + max(0, r.IntN(6)-3),
				Stop:      []engine.Token{7},
				Sampling:  engine.Sampling{Temperature: float32(r.IntN(2)), Seed: r.Uint64()},
			}
			q.PromptScores = r.IntN(6) == 0
			requests = append(requests, q)
		}
		added := 0
		for added < len(requests) || w.s.Stats().Running+w.s.Stats().Waiting > 0 {
			for added < len(requests) && r.IntN(3) == 0 {
				w.add(requests[added])
				added++
			}
			if a.cancels && added > 0 && r.IntN(10) == 0 {
				q := requests[r.IntN(added)]
				if r.IntN(2) == 0 {
					w.take(w.s.Cancel(q.ID, w.now))
				} else {
					w.take(w.s.CancelChoice(q.ID, r.IntN(q.Choices), w.now))
				}
			}
			w.step()
		}
		w.run()
		for _, q := range requests {
			failed := slices.Contains(w.done[q.ID], FinishError)
			if failed && a.failEvery == 0 {
				t.Errorf("request %d failed without a fault", q.ID)
			}
			if !failed {
				w.expect(q)
			}
			if q.PromptScores && w.done[q.ID][0] != FinishCancel && !failed {
				w.expectScores(q)
			}
		}
	})
	return ok
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

var seedFlag = flag.Uint64("seed", 0, "the seed of TestMetamorphicSeed")

// TestMetamorphicSeed runs one seed of TestMetamorphic.
func TestMetamorphicSeed(t *testing.T) { metamorphic(t, *seedFlag) }
