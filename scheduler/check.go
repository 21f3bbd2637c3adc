package scheduler

import (
	"fmt"
	"slices"

	"llamero/engine"
)

// Check verifies every invariant of the scheduler between steps. It is for tests
// and fuzzers: it costs a pass over everything.
func (s *Scheduler) Check() error {
	l := s.cfg.Limits
	if len(s.slots) != l.Slots+l.Scratch {
		return fmt.Errorf("%d slots for limits of %d + %d", len(s.slots), l.Slots, l.Scratch)
	}
	seen := make(map[*sequence]string)
	used := 0
	for i, q := range s.slots {
		if q == nil {
			continue
		}
		if i >= l.Slots {
			return fmt.Errorf("request %d sits in scratch slot %d", q.req.ID, i)
		}
		if s.dirty[i] {
			return fmt.Errorf("slot %d is taken and dirty", i)
		}
		if q.slot != int32(i) {
			return fmt.Errorf("slot %d holds a sequence that believes in slot %d", i, q.slot)
		}
		if prev, ok := seen[q]; ok {
			return fmt.Errorf("request %d is in slot %d and %s", q.req.ID, i, prev)
		}
		seen[q] = fmt.Sprintf("in slot %d", i)
		if !q.admitted {
			return fmt.Errorf("request %d runs without admission", q.req.ID)
		}
		used += q.computed
	}
	if n := s.cells.Used(); n > l.PoolTokens || n > used || l.Layout == engine.Split && n < used {
		return fmt.Errorf("%d cells of %d are in use for %d tokens", n, l.PoolTokens, used)
	}
	for i, q := range s.waiting {
		if prev, ok := seen[q]; ok {
			return fmt.Errorf("request %d waits and is %s", q.req.ID, prev)
		}
		seen[q] = "waiting"
		if q.slot != noSlot || q.computed != 0 {
			return fmt.Errorf("request %d waits with slot %d and %d computed tokens", q.req.ID, q.slot, q.computed)
		}
		if i > 0 && !s.waiting[i-1].before(q) {
			return fmt.Errorf("the queue is out of order at %d", i)
		}
	}
	queued, sequences := 0, 0
	active := make(map[string]int)
	for id, req := range s.requests {
		if id != req.ID {
			return fmt.Errorf("request %d is filed under %d", req.ID, id)
		}
		if !req.started() {
			queued++
		}
		active[req.Tenant]++
		left := 0
		for _, q := range req.sequences {
			if err := q.check(l.SlotTokens); err != nil {
				return fmt.Errorf("request %d, choice %d: %w", id, q.choice, err)
			}
			_, there := seen[q]
			if there == q.ended {
				return fmt.Errorf("request %d, choice %d: ended %v, held %v", id, q.choice, q.ended, there)
			}
			if !q.ended {
				left++
				sequences++
			}
		}
		if left != req.left || left == 0 {
			return fmt.Errorf("request %d has %d choices left, not %d", id, left, req.left)
		}
	}
	if sequences != len(seen) {
		return fmt.Errorf("%d sequences are held; requests have %d", len(seen), sequences)
	}
	if queued != s.queued || s.queued > s.cfg.Queue {
		return fmt.Errorf("%d requests queued, counted %d, of at most %d", queued, s.queued, s.cfg.Queue)
	}
	for name, sh := range s.shares {
		if sh.active != active[name] {
			return fmt.Errorf("tenant %q has %d requests, counted %d", name, active[name], sh.active)
		}
	}
	for a, q := range s.computing {
		if q.ended || q.slot == noSlot && !q.fetching {
			return fmt.Errorf("page %s is said to come from request %d, which neither computes nor fetches", a, q.req.ID)
		}
	}
	if s.cfg.Pages != nil {
		if err := s.cfg.Pages.Check(); err != nil {
			return err
		}
	}
	if err := s.checkSuspects(); err != nil {
		return err
	}
	if s.flight == nil && (s.rows != nil || s.shapes != nil) {
		return fmt.Errorf("rows without a flight")
	}
	return nil
}

func (q *sequence) check(slotTokens int) error {
	switch {
	case q.ended:
		return nil
	case q.gap() < 1:
		return fmt.Errorf("%d of %d tokens computed: nothing left to compute", q.computed, len(q.tokens))
	case len(q.tokens) >= q.limit || q.limit > slotTokens:
		return fmt.Errorf("%d tokens of %d, in a slot of %d", len(q.tokens), q.limit, slotTokens)
	case !slices.Equal(q.tokens[:len(q.req.Prompt)], q.req.Prompt):
		return fmt.Errorf("the prompt has changed")
	}
	return nil
}
