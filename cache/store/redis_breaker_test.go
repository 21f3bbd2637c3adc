package store

import (
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	now := time.Now()
	var b breaker
	fail := func() (time.Duration, bool) {
		t.Helper()
		era, ok := b.enter()
		if !ok {
			t.Fatal("the breaker is open")
		}
		wait, tripped, first := b.fail(era, now)
		if want := !tripped && b.failures == 1; first != want {
			t.Fatalf("failure %d is the first of a row: %v", b.failures, first)
		}
		return wait, tripped
	}
	trip := func() time.Duration {
		t.Helper()
		for range tripAfter - 1 {
			if _, tripped := fail(); tripped {
				t.Fatal("it opens too early")
			}
		}
		wait, tripped := fail()
		if _, ok := b.enter(); ok || !tripped {
			t.Fatal("it does not open")
		}
		return wait
	}

	// A success between failures starts the count anew.
	for range 3 * tripAfter {
		if _, tripped := fail(); tripped {
			t.Fatal("it opens though Redis answers now and then")
		}
		era, _ := b.enter()
		b.succeed(era)
	}

	late, _ := b.enter()
	if wait := trip(); wait != probeEvery {
		t.Errorf("the first probe is due after %v", wait)
	}
	if _, tripped, first := b.fail(late, now); tripped || first {
		t.Error("it opens twice")
	}
	b.close(now)
	// What began before it opened says nothing of now, good or bad.
	for range 2 * tripAfter {
		if _, tripped, first := b.fail(late, now); tripped || first {
			t.Fatal("late failures open it")
		}
	}
	for range tripAfter - 1 {
		fail()
	}
	b.succeed(late)
	if _, tripped := fail(); !tripped {
		t.Error("a late success counts")
	}
	b.close(now)

	// Where requests fail and probes succeed, probes come less often, but not forever.
	last := 2 * probeEvery
	for range 10 {
		now = now.Add(time.Second)
		wait := trip()
		if wait != min(2*last, maxProbeWait) {
			t.Errorf("wait %v after %v", wait, last)
		}
		last = wait
		now = now.Add(wait)
		b.close(now)
	}
	now = now.Add(relapse + time.Second)
	if wait := trip(); wait != probeEvery {
		t.Errorf("wait %v after a long time of health", wait)
	}
	era, _ := b.enter()
	if _, tripped := b.confirm(era, now); tripped {
		t.Error("what is open is opened")
	}
	b.close(now)
	if _, tripped := b.confirm(era, now); tripped {
		t.Error("a probe from before it closed opens it")
	}
	era, _ = b.enter()
	if _, tripped := b.confirm(era, now); !tripped {
		t.Error("a probe that fails does not open it")
	}
	if open, opened := b.state(); !open || opened != 14 {
		t.Errorf("open %v, %d times", open, opened)
	}
}
