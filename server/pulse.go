package server

import (
	"context"
	"sync"
	"time"
)

// pulse is a context whose end comes again and again: Done is closed when no sign
// of life has gone out for an interval, and rearm makes it a live context once
// more. A stream needs one for its whole life, where context.WithTimeout would
// allocate at every token.
type pulse struct {
	interval time.Duration
	timer    *time.Timer

	mu      sync.Mutex
	done    chan struct{}
	fired   bool
	stopped bool
	due     time.Time
}

var _ context.Context = (*pulse)(nil)

func newPulse(interval time.Duration) *pulse {
	p := &pulse{interval: interval, done: make(chan struct{}), due: time.Now().Add(interval)}
	p.mu.Lock() // fire must not see timer unset
	p.timer = time.AfterFunc(interval, p.fire)
	p.mu.Unlock()
	return p
}

// fire puts itself off while there have been signs of life, so that beat need not
// touch the timer.
func (p *pulse) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.fired {
		return
	}
	if left := time.Until(p.due); left > 0 {
		p.timer.Reset(left)
		return
	}
	p.fired = true
	close(p.done)
}

// beat says that something was sent at now. If the pulse had fired, it is live again.
func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = now.Add(p.interval)
	if p.fired {
		p.fired = false
		p.done = make(chan struct{})
		if !p.stopped {
			p.timer.Reset(p.interval)
		}
	}
}

func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}

func (p *pulse) Deadline() (time.Time, bool) { return time.Time{}, false }
func (p *pulse) Value(any) any               { return nil }

func (p *pulse) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *pulse) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fired {
		return context.DeadlineExceeded
	}
	return nil
}
