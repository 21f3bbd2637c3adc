package loop

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"llamero/scheduler"
)

func TestDrainCompletesStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(2)
		l := start(t, e, Options{})
		var streams []*Stream
		for i := range 5 {
			streams = append(streams, submit(t, l, request(i, 20, 30)))
		}
		time.Sleep(50 * time.Millisecond)
		drained := make(chan error)
		go func() { drained <- l.Drain(context.Background()) }()
		synctest.Wait()
		if _, err := l.Submit(request(9, 10, 1), 0); !errors.Is(err, ErrDraining) {
			t.Errorf("%v, want %v", err, ErrDraining)
		}
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		for i, s := range streams {
			expect(t, e, request(i, 20, 30), 0, read(t, s, 1)[0])
		}
		synctest.Wait()
		if l.Stats().Ready {
			t.Error("ready while draining")
		}
		stop(t, l)
		if err := l.Drain(context.Background()); err != nil {
			t.Errorf("drain after close: %v", err)
		}
	})
}

func TestDrainEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(1)
		l := start(t, e, Options{})
		running := submit(t, l, request(1, 20, 200))
		queued := submit(t, l, request(2, 20, 200))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := l.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain: %v", err)
		}
		if d := time.Since(began); d != 200*time.Millisecond {
			t.Errorf("drain took %v", d)
		}
		stop(t, l)
		for i, s := range []*Stream{running, queued} {
			got := read(t, s, 1)[0]
			if got.finish != scheduler.FinishCancel {
				t.Errorf("stream %d ended with %q, want cancelled", i, got.finish)
			}
			if (len(got.tokens) > 0) != (i == 0) {
				t.Errorf("stream %d has %d tokens", i, len(got.tokens))
			}
		}
	})
}

func TestCloseTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(1)
		l := start(t, e, Options{})
		s := submit(t, l, request(1, 20, 200))
		done := make(chan error)
		for range 2 {
			go func() { done <- l.Close() }()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		stop(t, l)
		if e.closed != 1 {
			t.Errorf("the engine was closed %d times", e.closed)
		}
		if got := read(t, s, 1)[0]; got.finish != scheduler.FinishCancel {
			t.Errorf("finish %q, want cancelled", got.finish)
		}
		if _, err := l.Submit(request(2, 10, 1), 0); !errors.Is(err, ErrDraining) {
			t.Errorf("submit after close: %v", err)
		}
		s.Cancel() // a client that goes after everything has ended
		if l.Stats().Ready {
			t.Error("ready after close")
		}
	})
}

// TestEngineErrorIsRecovered: streams stand still for a moment and go on with the
// tokens that would have come.
func TestEngineErrorIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(3)
		e.Fail = func(step uint64, pass int) error {
			if step%7 == 3 && pass == 0 || step%11 == 5 && pass == -1 {
				return errors.New("injected")
			}
			return nil
		}
		l := start(t, e, Options{})
		defer stop(t, l)
		var streams []*Stream
		for i := range 6 {
			streams = append(streams, submit(t, l, request(i, 30, 20)))
		}
		for i, s := range streams {
			expect(t, e, request(i, 30, 20), 0, read(t, s, 1)[0])
		}
	})
}

// TestEngineStaysBroken: after three failed steps a request ends with the error,
// and the loop serves on when the engine is whole again.
func TestEngineStaysBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(1)
		broken := errors.New("broken")
		var whole atomic.Bool
		steps := 0
		e.Fail = func(uint64, int) error {
			if whole.Load() {
				return nil
			}
			steps++
			return broken
		}
		l := start(t, e, Options{})
		defer stop(t, l)
		got := read(t, submit(t, l, request(1, 30, 20)), 1)[0]
		if got.finish != scheduler.FinishError || !errors.Is(got.err, broken) {
			t.Errorf("finish %q with %v", got.finish, got.err)
		}
		if steps != 3 {
			t.Errorf("%d steps were tried, want 3", steps)
		}
		if !l.Stats().Ready {
			t.Error("not ready")
		}
		whole.Store(true)
		expect(t, e, request(2, 30, 5), 0, read(t, submit(t, l, request(2, 30, 5)), 1)[0])
	})
}

// TestBackoff: an engine that fails at once does not make the loop spin.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(1)
		steps := 0
		e.Fail = func(uint64, int) error { steps++; return errors.New("broken") }
		l := start(t, e, Options{Queue: 100})
		for i := range 50 {
			submit(t, l, request(i, 10, 5))
		}
		time.Sleep(10 * time.Second)
		stop(t, l)
		if steps > 30 {
			t.Errorf("%d steps in 10 s of failure", steps)
		}
	})
}
