package loop

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// places are those of a served model, over all of its loops: slots, and a queue before
// them. They are counted before anything else, so that a surplus is turned away while
// the loops are busy with their steps.
type places struct {
	slots, capacity int64
	taken           atomic.Int64 // answers that have not ended, those on their way to a loop included
	interval        atomic.Int64 // average time between the ends of answers while others wait, ns

	mu    sync.Mutex
	ended time.Time // the latest end of an answer
}

func newPlaces(slots, queue int) *places {
	return &places{slots: int64(slots), capacity: int64(slots + queue)}
}

// take takes n places, for somebody who would not wait longer than that; 0 is any time.
func (p *places) take(n int64, wait time.Duration) error {
	place := p.taken.Add(n)
	if place > p.capacity || wait > 0 && p.expected(place) > wait {
		p.taken.Add(-n)
		return &BusyError{RetryAfter: min(max(p.expected(place)/2, minRetryAfter), maxRetryAfter)}
	}
	return nil
}

func (p *places) give(n int64) { p.taken.Add(-n) }

// expected is how long a place waits for its slot: for those ahead to end.
func (p *places) expected(place int64) time.Duration {
	return time.Duration(p.interval.Load() * max(0, place-p.slots))
}

// end gives back the place of an answer that has ended, and keeps the time between such
// ends, which is what a place in the queue waits for.
func (p *places) end() {
	p.give(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.ended.IsZero() && p.taken.Load() >= p.slots {
		gap := float64(now.Sub(p.ended))
		old := float64(p.interval.Load())
		if old == 0 {
			old = gap
		}
		p.interval.Store(int64(math.Round(old + 0.1*(gap-old))))
	}
	p.ended = now
}
