package loop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/scheduler"
)

// timed is the fake engine in (simulated) time: a pass takes as long as it says.
// With a gate, a step begins when the test has let it.
type timed struct {
	*enginetest.Fake
	gate chan struct{} // nil: open

	mu     sync.Mutex
	plans  []engine.Plan
	closed int
}

func newTimed(slots int) *timed {
	l := enginetest.DefaultLimits(engine.Split)
	l.Slots, l.PoolTokens = slots, slots*l.SlotTokens
	return &timed{Fake: enginetest.NewFake(l)}
}

func newGated(slots int) *timed {
	e := newTimed(slots)
	e.gate = make(chan struct{})
	return e
}

func (e *timed) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	e.mu.Lock()
	e.plans = append(e.plans, p)
	e.mu.Unlock()
	if e.gate != nil {
		<-e.gate
	}
	return e.Fake.Step(ctx, p, func(o engine.Output) {
		time.Sleep(time.Duration(o.Nanos))
		emit(o)
	})
}

func (e *timed) Close() error {
	e.closed++
	return e.Fake.Close()
}

// last is the plan that runs, or ran last.
func (e *timed) last() engine.Plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plans[len(e.plans)-1]
}

// start starts a loop that is closed with the test.
func start(t *testing.T, e engine.Engine, opt Options) *Loop {
	t.Helper()
	if opt.Calibrate == 0 {
		opt.Calibrate = -1
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	l, err := New(e, opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func stop(t *testing.T, l *Loop) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func request(seed, prompt, answer int) scheduler.Request {
	r := scheduler.Request{MaxTokens: answer, Sampling: engine.Sampling{Temperature: 1, Seed: uint64(seed)}}
	for i := range prompt {
		r.Prompt = append(r.Prompt, engine.Token((seed*131+i*i*7+i)%1000))
	}
	return r
}

func submit(t *testing.T, l *Loop, r scheduler.Request) *Stream {
	t.Helper()
	s, err := l.Submit(r, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what one choice of a stream came to.
type answer struct {
	tokens []engine.Token
	finish scheduler.Finish
	err    error
	events int
}

// read reads a stream to its end.
func read(t *testing.T, s *Stream, choices int) []answer {
	t.Helper()
	out := make([]answer, choices)
	for {
		events, err := s.Next(context.Background())
		if errors.Is(err, io.EOF) {
			for c, a := range out {
				if a.finish == scheduler.FinishNone {
					t.Errorf("the stream ended before choice %d", c)
				}
			}
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			a := &out[e.Choice]
			if a.finish != scheduler.FinishNone {
				t.Errorf("event %d of choice %d after its end", e.Kind, e.Choice)
			}
			a.events++
			for _, x := range e.Tokens {
				a.tokens = append(a.tokens, x.Token)
			}
			if e.Kind == scheduler.EventDone {
				a.finish, a.err = e.Finish, e.Err
			}
		}
	}
}

// expect compares an answer with what the fake gives by itself.
func expect(t *testing.T, e *timed, r scheduler.Request, choice int, got answer) {
	t.Helper()
	p := r.Sampling
	p.Choice += int32(choice)
	want := e.Reference(r.Prompt, p, r.MaxTokens)
	if got.finish != scheduler.FinishLength || !slices.Equal(got.tokens, want) {
		t.Errorf("finish %q after %v, want %v (%v)", got.finish, got.tokens, want, got.err)
	}
}
