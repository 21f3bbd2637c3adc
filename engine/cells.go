package engine

import "slices"

// Cells counts the cells of a unified pool. What one slot was forked from another is
// in the same cells, and counted once, until the last of them has left it. In the
// split layout each slot has cells of its own.
type Cells struct {
	slots  []held
	used   int
	shares bool
}

// held is what one slot holds: spans that it shares, or did, and behind them cells of
// its own.
type held struct {
	spans []*span
	own   int
}

// span is a run of cells that several slots hold at once.
type span struct{ cells, holders int }

// NewCells returns the count for so many empty slots.
func NewCells(l Layout, slots int) *Cells {
	return &Cells{slots: make([]held, slots), shares: l == Unified}
}

// Used is how many cells are in use.
func (c *Cells) Used() int { return c.used }

// Grow adds n tokens to a slot.
func (c *Cells) Grow(slot int32, n int) {
	c.slots[slot].own += n
	c.used += n
}

// Fork gives an empty slot the first n tokens of another, which holds at least those.
func (c *Cells) Fork(from, to int32, n int) {
	if !c.shares {
		c.Grow(to, n)
		return
	}
	f, t := &c.slots[from], &c.slots[to]
	k := c.split(from, n)
	for _, s := range f.spans[:k] {
		s.holders++
		t.spans = append(t.spans, s)
		n -= s.cells
	}
	if n > 0 { // of the slot's own
		s := &span{cells: n, holders: 2}
		f.spans, f.own = append(f.spans, s), f.own-n
		t.spans = append(t.spans, s)
	}
}

// Cut leaves a slot its first n tokens.
func (c *Cells) Cut(slot int32, n int) {
	h := &c.slots[slot]
	k := c.split(slot, n)
	for _, s := range h.spans[:k] {
		n -= s.cells
	}
	c.used -= h.own - n
	h.own = n
	for _, s := range h.spans[k:] {
		if s.holders--; s.holders == 0 {
			c.used -= s.cells
		}
	}
	h.spans = slices.Delete(h.spans, k, len(h.spans))
}

// Move carries what a slot holds to an empty one.
func (c *Cells) Move(from, to int32) {
	c.slots[to], c.slots[from] = c.slots[from], held{spans: c.slots[to].spans[:0]}
}

// split sees to it that a span of a slot ends at n tokens, unless its own cells begin
// there or before, and returns how many spans lie before.
func (c *Cells) split(slot int32, n int) int {
	for k, s := range c.slots[slot].spans {
		switch {
		case n == 0:
			return k
		case n < s.cells:
			rest := &span{cells: s.cells - n, holders: s.holders}
			s.cells = n
			for i := range c.slots {
				h := &c.slots[i]
				if at := slices.Index(h.spans, s); at >= 0 {
					h.spans = slices.Insert(h.spans, at+1, rest)
				}
			}
			return k + 1
		}
		n -= s.cells
	}
	return len(c.slots[slot].spans)
}
