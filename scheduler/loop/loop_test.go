package loop

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// The tests run in synctest bubbles: time is simulated, and a goroutine that is
// left behind fails the test.

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(4)
		l := start(t, e, Options{Calibrate: time.Second})
		defer stop(t, l)
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				r := request(i, 1+i*5, 5+i%20)
				r.Choices = 1 + i%3
				s := submit(t, l, r)
				for c, a := range read(t, s, r.Choices) {
					expect(t, e, r, c, a)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if st := l.Stats(); st.Running != 0 || st.Waiting != 0 || st.TokensInUse != 0 || !st.Ready {
			t.Errorf("at rest: %+v", st)
		}
	})
}

func TestSubmitDoesNotWaitForAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(4)
		l := start(t, e, Options{})
		first := submit(t, l, request(1, 20, 3))
		synctest.Wait()
		if n := len(e.plans); n != 1 {
			t.Fatalf("%d steps begun, want 1", n)
		}
		began := time.Now()
		second := submit(t, l, request(2, 20, 3)) // a bubble that waits for ever would panic
		l.Stats()
		if d := time.Since(began); d != 0 {
			t.Errorf("Submit and Stats took %v while a step ran", d)
		}
		close(e.gate)
		for i, s := range []*Stream{first, second} {
			expect(t, e, request(i+1, 20, 3), 0, read(t, s, 1)[0])
		}
		stop(t, l)
	})
}

// A held place counts: nobody else gets it, until it is given back.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(2)
		l := start(t, e, Options{Queue: 1})
		defer stop(t, l)
		var releases []func()
		for range 3 {
			release, err := l.Hold()
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		if _, err := l.Submit(request(0, 20, 3), 0); !errors.Is(err, scheduler.ErrQueueFull) {
			t.Fatalf("%v with every place held", err)
		}
		releases[0]()
		s := submit(t, l, request(0, 20, 3))
		for _, release := range releases {
			release()
		}
		s.Cancel()
	})
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(2)
		l := start(t, e, Options{Queue: 3})
		defer stop(t, l)
		two := request(0, 20, 3)
		two.Choices = 2 // an answer is a place
		streams := []*Stream{submit(t, l, two)}
		for i := range 3 {
			release, err := l.Hold()
			if err != nil {
				t.Fatalf("busy with %d of 5 places taken: %v", 2+i, err)
			}
			release()
			release() // once is enough: no place is given back twice
			streams = append(streams, submit(t, l, request(i+1, 20, 3)))
		}
		for range 3 {
			_, err := l.Submit(request(9, 20, 3), 0)
			var busy *BusyError
			if !errors.As(err, &busy) || !errors.Is(err, scheduler.ErrQueueFull) {
				t.Fatalf("%v, want a BusyError", err)
			}
			if busy.RetryAfter < time.Second || busy.RetryAfter > 8*time.Second {
				t.Errorf("retry after %v", busy.RetryAfter)
			}
			if _, err := l.Hold(); !errors.As(err, &busy) {
				t.Errorf("not busy with all places taken: %v", err)
			}
		}
		close(e.gate)
		read(t, streams[0], 2)
		for _, s := range streams[1:] {
			read(t, s, 1)
		}
		expect(t, e, request(9, 20, 3), 0, read(t, submit(t, l, request(9, 20, 3)), 1)[0])
	})
}

// TestSurplus: 500 at once onto 8 slots and a queue of 64: who has no place is
// told at once, the others are served.
func TestSurplus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(8)
		l := start(t, e, Options{Queue: 64})
		defer stop(t, l)
		streams := make([]*Stream, 500)
		refused := 0
		began := time.Now()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range streams {
			wg.Go(func() {
				s, err := l.Submit(request(i, 10, 4), 0)
				mu.Lock()
				defer mu.Unlock()
				streams[i] = s
				if err != nil {
					refused++
					if !errors.Is(err, scheduler.ErrQueueFull) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
		if refused != 500-72 {
			t.Errorf("%d refused, want %d", refused, 500-72)
		}
		close(e.gate)
		for i, s := range streams {
			if s != nil {
				expect(t, e, request(i, 10, 4), 0, read(t, s, 1)[0])
			}
		}
	})
}

// TestRetryAfter follows how fast places have become free.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		pass     time.Duration
		min, max time.Duration
	}{
		{time.Millisecond, time.Second, time.Second},
		{200 * time.Millisecond, 1100 * time.Millisecond, 7900 * time.Millisecond},
		{20 * time.Second, 8 * time.Second, 8 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newTimed(1)
			e.Cost = func(*engine.Pass, int) int64 { return int64(c.pass) }
			l := start(t, e, Options{Queue: 4})
			for i := range 5 {
				submit(t, l, request(i, 10, 8))
			}
			var last error
			for i := range 40 { // as soon as a place is free another takes it
				time.Sleep(c.pass * 8)
				for {
					s, err := l.Submit(request(i, 10, 8), 0)
					if last = err; s == nil {
						break
					}
				}
			}
			var busy *BusyError
			if !errors.As(last, &busy) || busy.RetryAfter < c.min || busy.RetryAfter > c.max {
				t.Errorf("passes of %v: %+v, want between %v and %v", c.pass, busy, c.min, c.max)
			}
			stop(t, l)
		})
	}
}

// TestQueueWait: who has waited as long as it may is let go; who would have to
// wait longer is not let in.
func TestQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(1)
		e.Cost = func(*engine.Pass, int) int64 { return int64(100 * time.Millisecond) }
		l := start(t, e, Options{Queue: 10, QueueWait: time.Second})
		defer stop(t, l)
		long := submit(t, l, request(1, 10, 50)) // 5 s
		time.Sleep(time.Millisecond)
		began := time.Now()
		patient, err := l.Submit(request(2, 10, 2), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, submit(t, l, request(3, 10, 2)), 1)[0]
		if waited := time.Since(began); got.finish != scheduler.FinishExpired || waited < time.Second || waited > 1200*time.Millisecond {
			t.Errorf("finish %q after %v, want expired after a second", got.finish, waited)
		}
		expect(t, e, request(1, 10, 50), 0, read(t, long, 1)[0])
		expect(t, e, request(2, 10, 2), 0, read(t, patient, 1)[0])
		// Answers of 5 s each: the third in line cannot make it within one second.
		var streams []*Stream
		for i := range 4 {
			s, err := l.Submit(request(i, 10, 50), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		for _, s := range streams[:2] {
			read(t, s, 1)
		}
		if _, err := l.Submit(request(8, 10, 2), 0); !errors.Is(err, scheduler.ErrQueueFull) {
			t.Errorf("%v, want a refusal", err)
		}
		for _, s := range streams[2:] {
			read(t, s, 1)
		}
	})
}

func TestSubmitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, newTimed(2), Options{Queue: 1})
		defer stop(t, l)
		for range 10 { // refusals take no place
			if _, err := l.Submit(request(1, 256, 1), 0); !errors.Is(err, scheduler.ErrTooLong) {
				t.Errorf("a long prompt: %v", err)
			}
			if _, err := l.Submit(request(1, 0, 1), 0); err == nil {
				t.Error("an empty prompt")
			}
			r := request(1, 5, 1)
			r.Choices = 4
			if _, err := l.Submit(r, 0); !errors.Is(err, scheduler.ErrQueueFull) {
				t.Errorf("more choices than places: %v", err)
			}
		}
		read(t, submit(t, l, request(1, 5, 1)), 1)
	})
}

func TestNewRefuses(t *testing.T) {
	for _, opt := range []Options{{TargetITL: -1}, {Queue: -1}, {QueueWait: -1}} {
		if _, err := New(newTimed(1), opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
	e := newTimed(1)
	broken := errors.New("broken")
	e.Fail = func(uint64, int) error { return broken }
	if _, err := New(e, Options{}); !errors.Is(err, broken) {
		t.Errorf("a calibration that fails: %v", err)
	}
}

// TestCalibrationIsBounded: a slow engine holds up the start for what predictions rest
// on, a very slow one not even for that.
func TestCalibrationIsBounded(t *testing.T) {
	for _, c := range []struct{ pass, least, most time.Duration }{
		{10 * time.Millisecond, 0, time.Second},
		{300 * time.Millisecond, time.Second, 6 * time.Second},
		{6 * time.Second, 6 * time.Second, 16 * time.Second},
	} {
		t.Run(c.pass.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newTimed(8)
				e.Cost = func(*engine.Pass, int) int64 { return int64(c.pass) }
				began := time.Now()
				l := start(t, e, Options{Calibrate: time.Second})
				defer stop(t, l)
				if d := time.Since(began); d < c.least || d > c.most {
					t.Errorf("calibration took %v", d)
				}
				expect(t, e, request(1, 10, 3), 0, read(t, submit(t, l, request(1, 10, 3)), 1)[0])
			})
		})
	}
}

func TestStreamNextEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newGated(1)
		l := start(t, e, Options{})
		s := submit(t, l, request(1, 10, 3))
		synctest.Wait()
		if _, err := s.Next(context.Background()); err != nil { // admitted
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want %v", err, context.DeadlineExceeded)
		}
		close(e.gate)
		expect(t, e, request(1, 10, 3), 0, read(t, s, 1)[0]) // it can be read on
		stop(t, l)
	})
}

// TestSlowReader: the loop runs on, and what has gathered is one event a kind.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTimed(4)
		l := start(t, e, Options{})
		defer stop(t, l)
		r := request(1, 20, 200)
		r.Choices = 2
		slow := submit(t, l, r)
		quick := request(2, 20, 200)
		expect(t, e, quick, 0, read(t, submit(t, l, quick), 1)[0])
		time.Sleep(time.Hour)
		events, err := slow.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(events) != 6 {
			t.Errorf("%d events, want admission, tokens and end of two choices", len(events))
		}
		got := make([][]engine.Token, 2)
		for _, ev := range events {
			for _, x := range ev.Tokens {
				got[ev.Choice] = append(got[ev.Choice], x.Token)
			}
		}
		for c, tokens := range got {
			expect(t, e, r, c, answer{tokens: tokens, finish: scheduler.FinishLength})
		}
	})
}
