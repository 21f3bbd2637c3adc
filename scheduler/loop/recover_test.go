package loop

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// mortal is a timed engine that can be lost; it is back so long after.
type mortal struct {
	*timed
	away time.Duration // negative: for ever
	down atomic.Bool
	lost int
}

func newMortal(slots int, away time.Duration) *mortal {
	return &mortal{timed: newTimed(slots), away: away}
}

// kill makes the engine die in its next step.
func (e *mortal) kill(begun bool) {
	e.Fail = func(uint64, int) error {
		e.Fail = nil
		e.lost++
		e.down.Store(true)
		return &engine.LostError{Reason: "killed", Begun: begun}
	}
}

func (e *mortal) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	if e.down.Load() {
		return &engine.LostError{Reason: "not there"}
	}
	return e.timed.Step(ctx, p, emit)
}

func (e *mortal) Recover(ctx context.Context) error {
	var back <-chan time.Time
	if e.away >= 0 {
		back = time.After(e.away)
	}
	select {
	case <-back:
		e.Restart()
		e.down.Store(false)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *mortal) Ready() bool { return !e.down.Load() }

// TestLostEngine: streams stand still until the engine is back, and go on with the
// tokens that would have come; readiness tells.
func TestLostEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newMortal(3, 3*time.Second)
		l := start(t, e, Options{})
		defer stop(t, l)
		for round := range 3 {
			e.kill(round%2 == 0)
			began := time.Now()
			var streams []*Stream
			for i := range 5 {
				streams = append(streams, submit(t, l, request(i, 30, 20)))
			}
			time.Sleep(time.Second)
			if st := l.Stats(); st.Ready || st.Running != 0 {
				t.Errorf("while the engine is away: %+v", st)
			}
			for i, s := range streams {
				expect(t, e.timed, request(i, 30, 20), 0, read(t, s, 1)[0])
			}
			if !l.Stats().Ready || time.Since(began) < e.away {
				t.Errorf("ready %v after %v", l.Stats().Ready, time.Since(began))
			}
		}
		if e.lost != 3 {
			t.Errorf("lost %d times", e.lost)
		}
	})
}

// TestIdleDeath: an engine that dies while nothing runs makes the loop unready at once.
func TestIdleDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newMortal(1, time.Second)
		l := start(t, e, Options{})
		defer stop(t, l)
		synctest.Wait()
		e.down.Store(true)
		if l.Stats().Ready {
			t.Error("ready without an engine")
		}
		expect(t, e.timed, request(1, 30, 5), 0, read(t, submit(t, l, request(1, 30, 5)), 1)[0])
	})
}

// TestWhileAway: cancellations, deadlines and the end are not kept waiting.
func TestWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newMortal(1, -1)
		l := start(t, e, Options{})
		e.kill(true)
		running := submit(t, l, request(1, 30, 20))
		late, err := l.Submit(request(2, 30, 20), 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		gone := submit(t, l, request(3, 30, 20))
		synctest.Wait()
		began := time.Now()
		gone.Cancel()
		if got := read(t, gone, 1)[0]; got.finish != scheduler.FinishCancel || time.Since(began) > 0 {
			t.Errorf("cancelled: %q after %v", got.finish, time.Since(began))
		}
		if got := read(t, late, 1)[0]; got.finish != scheduler.FinishExpired || time.Since(began) > 3*time.Second {
			t.Errorf("its deadline passed: %q after %v", got.finish, time.Since(began))
		}
		if got := read(t, running, 1)[0]; got.finish != scheduler.FinishError || !errors.Is(got.err, engine.ErrLost) || time.Since(began) < recoverLimit {
			t.Errorf("nobody came: %q (%v) after %v", got.finish, got.err, time.Since(began))
		}
		cut := submit(t, l, request(4, 30, 20))
		began = time.Now()
		stop(t, l)
		if got := read(t, cut, 1)[0]; got.finish == scheduler.FinishLength || time.Since(began) > time.Second {
			t.Errorf("closed: %q after %v", got.finish, time.Since(began))
		}
	})
}
