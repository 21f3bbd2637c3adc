package scheduler

import (
	"slices"

	"llamero/engine"
)

// admit gives free slots to waiting sequences.
func (b *builder) admit() {
	s := b.s
	for {
		slot := slices.Index(s.slots[:s.cfg.Limits.Slots], nil)
		if slot < 0 {
			return
		}
		q := s.next(b.ready)
		if q == nil || !b.fits(q) || b.carried() {
			return
		}
		s.waiting = slices.DeleteFunc(s.waiting, func(o *sequence) bool { return o == q })
		b.open(q, int32(slot))
	}
}

// carried reports whether the step's edits alone take as long as a chunk may: the
// rest of those who wait for their pages is restored in the next one.
func (b *builder) carried() bool {
	return b.s.costs.copy(b.copies) > maxCarry*float64(b.s.cfg.TargetITL)
}

// maxCarry is the part of the target that copies from and to host pages may take.
const maxCarry = 0.5

// ready reports whether a waiting sequence should start now. A sibling whose
// prompt another answer of the same request is computing waits for it, and so does
// one whose next pages another request is computing.
func (b *builder) ready(q *sequence) bool {
	if b.s.barred(q) {
		return false
	}
	if b.forkable(q) {
		computing := false
		for _, o := range q.req.sequences {
			if o.slot == noSlot {
				continue
			}
			if o.computed >= len(q.req.Prompt)-1 {
				return true
			}
			computing = true
		}
		if computing {
			return false
		}
	}
	return !q.fetching && !b.s.follows(q)
}

// forkable: the sequence starts from the bare prompt of a request with siblings.
func (b *builder) forkable(q *sequence) bool {
	return len(q.req.sequences) > 1 && b.s.cfg.Limits.Trims && !q.apart() &&
		len(q.tokens) == len(q.req.Prompt) && len(q.tokens) > 1 && !q.scores()
}

// fits reports whether the pool has room for a sequence's tokens beside those
// that run, with a little room for them to grow. An empty pool takes anything, and
// in the split layout each slot has room of its own.
func (b *builder) fits(q *sequence) bool {
	const growth = 16 // tokens a running sequence, before newcomers
	if b.s.cfg.Limits.Layout == engine.Split {
		return true
	}
	need, running := b.s.cells.Used()+len(q.tokens), 0
	for _, o := range b.s.slots {
		if o != nil {
			need += o.gap()
			running++
		}
	}
	_, shared := b.s.source(q)
	return running == 0 || need-shared+growth*(running+1) <= b.s.cfg.Limits.PoolTokens
}

// open puts a sequence into a free slot.
func (b *builder) open(q *sequence, slot int32) {
	s := b.s
	if !q.req.started() {
		s.queued--
	}
	b.edit(engine.Edit{Kind: engine.EditOpen, Slot: slot, Len: int32(len(q.req.Prompt)), Sampling: q.sampling()})
	if from := b.forkSource(q); from != nil {
		b.fork(from, q, slot, len(q.req.Prompt)-1)
	} else if from, n := s.source(q); from != nil {
		b.fork(from, q, slot, n)
	} else {
		b.restore(q, slot)
	}
	s.slots[slot] = q
	q.slot = slot
	s.claim(q)
	if !q.admitted {
		q.admitted = true
		b.events = append(b.events, Event{
			ID: q.req.ID, Choice: q.choice, Kind: EventAdmitted, At: b.now, Cached: q.computed,
		})
	}
}

// forkSource is a sibling with the prompt computed, or nil.
func (b *builder) forkSource(q *sequence) *sequence {
	if !b.forkable(q) {
		return nil
	}
	for _, o := range q.req.sequences {
		if o.slot != noSlot && o.computed >= len(q.req.Prompt)-1 {
			return o
		}
	}
	return nil
}

// makeRoom preempts until the pool holds what the running sequences decode next:
// the one that would be served last goes first, and computes again later.
func (b *builder) makeRoom() {
	s := b.s
	for {
		// What a prompt has not computed yet waits for room; a decoder needs its token.
		need, decoders := s.cells.Used(), 0
		var last *sequence
		for _, q := range s.slots {
			if q == nil {
				continue
			}
			if q.decodes() {
				decoders++
			}
			if last == nil || last.before(q) {
				last = q
			}
		}
		if last == nil || need+max(1, decoders) <= s.cfg.Limits.PoolTokens {
			return
		}
		s.preemptions++
		slot := last.slot
		b.publishSlot(last)
		s.vacate(last)
		s.enqueue(last)
		b.edit(engine.Edit{Kind: engine.EditDrop, Slot: slot})
		s.dirty[slot] = false
	}
}
