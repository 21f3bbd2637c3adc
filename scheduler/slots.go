package scheduler

import (
	"slices"

	"llamero/engine"
)

// In the split layout a pass wants consecutive slots, and a hole in the middle
// would break it into two that cost twice. A hole is closed by moving a sequence
// into it, or plugged by an idle row, whichever is cheaper over the steps to come.

// moveHorizon is how many steps an arrangement of slots is expected to last.
const moveHorizon = 32

// compact moves decoding sequences into free slots between them.
func (b *builder) compact() {
	s := b.s
	if s.cfg.Limits.Layout != engine.Split || b.dense() {
		return
	}
	down := b.simulate(true)
	up := b.simulate(false)
	if up.gain > down.gain {
		down = up
	}
	for _, m := range down.moves {
		q := s.slots[m.from]
		b.edit(engine.Edit{Kind: engine.EditMove, Slot: m.from, To: m.to})
		b.copies.add(moving(q.computed))
		s.cells.Move(m.from, m.to)
		s.slots[m.to], s.slots[m.from] = q, nil
		q.slot = m.to
	}
}

// dense reports whether what decodes stands together, as it does most of the time.
func (b *builder) dense() bool {
	first, last, n := 0, 0, 0
	for i, q := range b.s.slots {
		if q != nil && q.decodes() {
			if n == 0 {
				first = i
			}
			last = i
			n++
		}
	}
	return n == 0 || last-first+1 == n
}

type move struct{ from, to int32 }

type arrangement struct {
	moves []move
	gain  float64 // nanoseconds over the horizon, moves paid
}

// simulate moves the outermost decoding sequence into the farthest hole, again
// and again, and returns the point at which most is gained. Downwards the highest
// slot goes into the lowest hole, upwards the other way round.
func (b *builder) simulate(downwards bool) arrangement {
	s := b.s
	var decoding, free []int32 // slots, the outermost to be moved last, the farthest hole first
	sum, longest, remaining := 0, 0, 0
	for i := range s.slots[:s.cfg.Limits.Slots] {
		q := s.slots[i]
		switch {
		case q == nil:
			free = append(free, int32(i))
		case q.decodes():
			decoding = append(decoding, int32(i))
			sum += q.computed
			longest = max(longest, q.computed)
			remaining = max(remaining, q.limit-len(q.tokens))
		}
	}
	if !downwards {
		slices.Reverse(decoding)
		slices.Reverse(free)
	}
	n := len(decoding)
	if n < 2 {
		return arrangement{}
	}
	span := func(slots []int32, extra ...int32) int {
		lo, hi := slots[0], slots[0]
		for _, list := range [2][]int32{slots, extra} {
			for _, i := range list {
				lo, hi = min(lo, i), max(hi, i)
			}
		}
		return int(hi-lo) + 1
	}
	cost := func(width int) float64 {
		depth := attended(width, sum, longest)
		return s.costs.decode(s.costs.round(width, depth, len(s.slots)), depth)
	}
	steps := float64(min(moveHorizon, remaining))
	before := cost(span(decoding))
	var best arrangement
	var moves []move
	var filled []int32
	paid := 0.0
	for len(decoding) > 1 && len(free) > 0 {
		from, to := decoding[len(decoding)-1], free[0]
		inside := to < from && to > decoding[0]
		if !downwards {
			inside = to > from && to < decoding[0]
		}
		if !inside {
			free = free[1:] // outside of what decodes: not a hole
			continue
		}
		if s.slots[from].apart() {
			break
		}
		moves = append(moves, move{from, to})
		paid += s.costs.copy(moving(s.slots[from].computed))
		filled = append(filled, to)
		decoding, free = decoding[:len(decoding)-1], free[1:]
		if gain := (before-cost(span(decoding, filled...)))*steps - paid; gain > best.gain {
			best = arrangement{moves: slices.Clone(moves), gain: gain}
		}
	}
	return best
}
