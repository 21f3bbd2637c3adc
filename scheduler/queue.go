package scheduler

import "slices"

// The queue: waiting sequences in the order of sequence.before, from which next
// picks by fair share. Service is counted as in Sheng et al. 2024 (virtual token
// counters): among those of equal priority the tenant that has had the least goes
// first, and a tenant that comes back starts no lower than the least of those who
// are there, so that nobody saves up.

const (
	promptWeight = 1.0 // of a computed token
	answerWeight = 2.0 // of a drawn one
	maxShares    = 1024
)

// share is what a tenant has had.
type share struct {
	served float64 // weighted tokens
	active int     // requests that have not ended
}

func (s *Scheduler) joinShare(tenant string) {
	sh := s.shares[tenant]
	if sh == nil {
		if len(s.shares) >= maxShares {
			for name, o := range s.shares {
				if o.active == 0 {
					delete(s.shares, name)
				}
			}
		}
		sh = &share{}
		s.shares[tenant] = sh
	}
	if sh.active == 0 {
		least, found := 0.0, false
		for _, o := range s.shares {
			if o.active > 0 && (!found || o.served < least) {
				least, found = o.served, true
			}
		}
		sh.served = max(sh.served, least)
	}
	sh.active++
}

func (s *Scheduler) leaveShare(tenant string) { s.shares[tenant].active-- }

func (s *Scheduler) charge(tenant string, computed, drawn int) {
	if sh := s.shares[tenant]; sh != nil {
		sh.served += promptWeight*float64(computed) + answerWeight*float64(drawn)
	}
}

// enqueue puts a sequence among the waiting.
func (s *Scheduler) enqueue(q *sequence) {
	i, _ := slices.BinarySearchFunc(s.waiting, q, func(a, b *sequence) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	s.waiting = slices.Insert(s.waiting, i, q)
}

// next picks the waiting sequence to be served among those that ready accepts, or
// nil: by priority; then those that have begun already (preempted, or siblings of
// a running answer); then the tenant with the least service; then arrival.
func (s *Scheduler) next(ready func(*sequence) bool) *sequence {
	var best *sequence
	for _, q := range s.waiting {
		if best != nil && q.req.Priority != best.req.Priority {
			break // sorted: the rest comes later
		}
		if !ready(q) {
			continue
		}
		if best == nil || s.sooner(q, best) {
			best = q
		}
	}
	return best
}

func (s *Scheduler) sooner(a, b *sequence) bool {
	if x, y := a.req.started(), b.req.started(); x != y {
		return x
	}
	if a.req.Tenant != b.req.Tenant {
		if x, y := s.shares[a.req.Tenant].served, s.shares[b.req.Tenant].served; x != y {
			return x < y
		}
	}
	return a.before(b)
}
