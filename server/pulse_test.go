package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A pulse ends an interval after the last beat, not before, and comes back to life.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(10 * time.Second)
		begun := time.Now()
		ended := func() time.Duration {
			<-p.Done()
			return time.Since(begun)
		}
		time.Sleep(9 * time.Second) // in the bubble's own time
		if p.Err() != nil {
			t.Error("it has ended early")
		}
		p.beat(time.Now())
		if at := ended(); at != 19*time.Second {
			t.Errorf("ended after %v, want 19 s", at)
		}
		if !errors.Is(p.Err(), context.DeadlineExceeded) {
			t.Errorf("Err is %v", p.Err())
		}
		p.beat(time.Now())
		if p.Err() != nil {
			t.Error("a beat does not bring it back")
		}
		if at := ended(); at != 29*time.Second {
			t.Errorf("ended after %v, want 29 s", at)
		}
		p.beat(time.Now())
		p.stop()
		time.Sleep(time.Minute)
		if p.Err() != nil {
			t.Error("it ends after stop")
		}
	})
}
