package loop

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// rowsOf counts a plan's rows in a slot that are not idle.
func rowsOf(p engine.Plan, slot int32) int {
	n := 0
	for _, pass := range p.Passes {
		for _, r := range pass.Rows {
			if r.Slot == slot && !r.Idle {
				n++
			}
		}
	}
	return n
}

// TestCancelFreesWithinAStep: a step at a time, the request that was cancelled
// while one ran has no row in the next.
func TestCancelFreesWithinAStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		prompt int // of the request that is cancelled
		steps  int // before it is
	}{
		{"before its first step", 10, 0},
		{"prefilling", 240, 1},
		{"at its first token", 10, 1},
		{"decoding", 10, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newGated(2)
				l := start(t, e, Options{TargetITL: 100 * time.Millisecond})
				stays := request(1, 10, 40)
				kept := submit(t, l, stays)
				synctest.Wait() // the first step runs, with one request
				goes := submit(t, l, request(2, c.prompt, 200))
				waits := request(3, 10, 5)
				next := submit(t, l, waits)
				step := func() {
					e.gate <- struct{}{}
					time.Sleep(time.Second) // longer than any pass
					synctest.Wait()
				}
				step()
				for range c.steps {
					step()
				}
				if rowsOf(e.last(), 1) == 0 {
					t.Fatal("the request does not run")
				}
				goes.Cancel()
				goes.Cancel()   // twice is allowed
				step()          // the step that was running
				opened := false // its slot went to the one that waited, at once
				for _, edit := range e.last().Edits {
					opened = opened || edit.Kind == engine.EditOpen && edit.Slot == 1
				}
				if !opened {
					t.Errorf("the slot has not been given on: %+v", e.last().Edits)
				}
				close(e.gate)
				if got := read(t, goes, 1)[0]; got.finish != scheduler.FinishCancel {
					t.Errorf("finish %q, want cancelled", got.finish)
				}
				goes.Cancel() // after its end
				expect(t, e, stays, 0, read(t, kept, 1)[0])
				expect(t, e, waits, 0, read(t, next, 1)[0])
				stop(t, l)
			})
		})
	}
}

func TestCancelQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(1)
		l := start(t, e, Options{Queue: 2})
		running := submit(t, l, request(1, 10, 5))
		queued := submit(t, l, request(2, 10, 5))
		other := submit(t, l, request(3, 10, 5))
		synctest.Wait()
		queued.Cancel()
		e.gate <- struct{}{}
		if got := read(t, queued, 1)[0]; got.finish != scheduler.FinishCancel || len(got.tokens) > 0 {
			t.Errorf("finish %q with %d tokens", got.finish, len(got.tokens))
		}
		submit(t, l, request(4, 10, 5)).Cancel() // its place is free; cancelled before the loop has seen it
		close(e.gate)
		expect(t, e, request(1, 10, 5), 0, read(t, running, 1)[0])
		expect(t, e, request(3, 10, 5), 0, read(t, other, 1)[0])
		stop(t, l)
	})
}

func TestCancelChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(4)
		l := start(t, e, Options{})
		defer stop(t, l)
		r := request(1, 20, 100)
		r.Choices = 3
		s := submit(t, l, r)
		time.Sleep(200 * time.Millisecond)
		s.CancelChoice(1)
		s.CancelChoice(7) // no such choice
		got := read(t, s, 3)
		expect(t, e, r, 0, got[0])
		expect(t, e, r, 2, got[2])
		if n := len(got[1].tokens); got[1].finish != scheduler.FinishCancel || n == 0 || n >= 100 {
			t.Errorf("finish %q after %d tokens", got[1].finish, n)
		}
	})
}

// TestVanishingClients: clients come and go in every state, on real goroutines;
// in the end nothing is held. Run with -race.
func TestVanishingClients(t *testing.T) {
	e := newTimed(6)
	e.Cost = func(*engine.Pass, int) int64 { return 50_000 }
	l := start(t, e, Options{Queue: 300})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			q := request(i, 1+r.IntN(200), 1+r.IntN(50))
			q.Choices = 1 + r.IntN(2)
			s, err := l.Submit(q, 0)
			if err != nil { // choices may have taken the last places
				return
			}
			if i%4 == 0 {
				for c, a := range read(t, s, q.Choices) {
					expect(t, e, q, c, a)
				}
				return
			}
			for range r.IntN(4) {
				if _, err := s.Next(t.Context()); err != nil {
					return
				}
			}
			if i%3 == 0 {
				s.CancelChoice(0)
			}
			s.Cancel()
			for {
				if _, err := s.Next(t.Context()); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(t, l)
	if st := l.Stats(); st.Running != 0 || st.Waiting != 0 || st.TokensInUse != 0 || l.places.taken.Load() != 0 {
		t.Errorf("left: %+v, %d places", st, l.places.taken.Load())
	}
}
