package store

import (
	"sync"
	"time"
)

const (
	tripAfter    = 3                      // failures in a row that open the breaker
	probeEvery   = 250 * time.Millisecond // while it is open
	maxProbeWait = 8 * time.Second
	relapse      = 10 * time.Second // a failure so soon after it closed doubles the wait
)

// breaker says whether Redis is worth asking. It opens after failures in a row, or
// after one that a probe confirms, and closes when a probe says so: no request is
// spent on finding out. Where probes
// succeed and requests fail all the same, on a link that is too slow for a page,
// probes come ever less often. Its methods are safe for concurrent use.
type breaker struct {
	mu       sync.Mutex
	open     bool
	failures int           // in a row
	era      uint64        // grows when it opens or closes: results from before say nothing of now
	opened   uint64        // how often
	closed   time.Time     // when it closed last
	wait     time.Duration // until the first probe
}

// enter asks whether Redis may be asked. The era goes with the result.
func (b *breaker) enter() (era uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.era, !b.open
}

// succeed says that Redis answered.
func (b *breaker) succeed(era uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if era == b.era {
		b.failures = 0
	}
}

// fail says that it did not, and whether that has opened the breaker: then the first
// probe is due after wait. The first failure of a row is to be confirmed by a probe.
func (b *breaker) fail(era uint64, now time.Time) (wait time.Duration, tripped, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if era != b.era || b.open {
		return 0, false, false
	}
	if b.failures++; b.failures < tripAfter {
		return 0, false, b.failures == 1
	}
	b.trip(now)
	return b.wait, true, false
}

// confirm says that a probe has failed as well. The answer is fail's.
func (b *breaker) confirm(era uint64, now time.Time) (wait time.Duration, tripped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if era != b.era || b.open {
		return 0, false
	}
	b.trip(now)
	return b.wait, true
}

func (b *breaker) trip(now time.Time) {
	if b.closed.IsZero() || now.Sub(b.closed) > relapse {
		b.wait = probeEvery
	} else {
		b.wait = min(2*b.wait, maxProbeWait)
	}
	b.open, b.failures = true, 0
	b.era++
	b.opened++
}

// close says that a probe has succeeded.
func (b *breaker) close(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.failures, b.closed = false, 0, now
	b.era++
}

func (b *breaker) state() (open bool, opened uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open, b.opened
}
