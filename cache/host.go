package cache

import (
	"fmt"
	"slices"
)

// Policy says which page goes when room is wanted. It knows only pages that Add has
// named and Remove has not.
type Policy interface {
	Add(Address)
	Touch(Address) // the page was used
	Remove(Address)
	Oldest() (Address, bool) // the page that should go next
}

// Host is the account of a block of memory of so many pages, numbered from 0. Engines
// read and write the memory through a View each. It is for one goroutine, or for one at
// a time.
type Host struct {
	pageTokens int
	policy     Policy
	entries    map[Address]*entry
	pages      []*entry // by number; nil is free
	free       []int32
	evictions  int
	views      []*View
}

// entry is a page that the memory holds.
type entry struct {
	address, parent Address
	index           int32   // in its chain
	tokens          []Token // compared on every hit
	page            int32
	kids            int   // entries whose parent this is
	pins            int   // of those who read it
	held            bool  // by the Put that runs
	writer          *View // that has it to write still; nil: it is written
}

// NewHost returns the account of an empty block of memory.
func NewHost(pages, pageTokens int, p Policy) *Host {
	h := &Host{pageTokens: pageTokens, policy: p, entries: make(map[Address]*entry), pages: make([]*entry, pages)}
	for i := pages - 1; i >= 0; i-- {
		h.free = append(h.free, int32(i)) // the first go out first
	}
	return h
}

// PageTokens is how many tokens a page holds.
func (h *Host) PageTokens() int { return h.pageTokens }

// Stats are counts for gauges.
type Stats struct {
	Pages, Used int // of the memory
	Evictions   int // pages that went for others, ever
}

// Stats counts.
func (h *Host) Stats() Stats {
	return Stats{Pages: len(h.pages), Used: len(h.pages) - len(h.free), Evictions: h.evictions}
}

// Match counts the pages that are written of a chain, from its beginning. tokens are
// those of the chain, at least.
func (h *Host) Match(chain []Address, tokens []Token) int { return h.match(nil, chain, tokens) }

// match counts what a View may begin with.
func (h *Host) match(v *View, chain []Address, tokens []Token) int {
	for i, a := range chain {
		e := h.entries[a]
		if e == nil || e.foreign(v) || !slices.Equal(e.tokens, tokens[i*h.pageTokens:(i+1)*h.pageTokens]) {
			return i
		}
	}
	return len(chain)
}

// foreign reports whether another than v has the page to write still.
func (e *entry) foreign(v *View) bool { return e.writer != nil && e.writer != v }

// room finds a free page, or one that may go for v's sake.
func (h *Host) room(v *View) (int32, bool) {
	for range len(h.entries) {
		if len(h.free) > 0 {
			break
		}
		a, ok := h.policy.Oldest()
		if !ok {
			break
		}
		e := h.entries[a]
		if e.held || e.pins > 0 || e.kids > 0 || e.foreign(v) {
			h.policy.Touch(a) // its turn comes again
			continue
		}
		h.remove(e)
		h.evictions++
	}
	n := len(h.free)
	if n == 0 {
		return 0, false
	}
	page := h.free[n-1]
	h.free = h.free[:n-1]
	return page, true
}

func (h *Host) remove(e *entry) {
	h.policy.Remove(e.address)
	delete(h.entries, e.address)
	h.pages[e.page] = nil
	h.free = append(h.free, e.page)
	if p := h.entries[e.parent]; p != nil {
		p.kids--
	}
}

// Entry is what a page of memory holds.
type Entry struct {
	Page            int32
	Index           int32 // in its chain: 0 is a first page
	Parent, Address Address
	Tokens          []Token
}

// Pin keeps a page, which holds something, where it is until Unpin, and says what it
// holds.
func (h *Host) Pin(page int32) Entry {
	e := h.pages[page]
	e.pins++
	return Entry{Page: page, Index: e.index, Parent: e.parent, Address: e.address, Tokens: e.tokens}
}

// Load takes in what the memory of an empty account holds already, the longest
// unused first. Entries that no first page leads to, or whose address is not that of
// their tokens, are left out. It returns how many were taken.
func (h *Host) Load(entries []Entry) int {
	kids := make(map[Address][]int)
	var reached []int // their numbers; first pages first, then what follows them
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Page < 0 || int(e.Page) >= len(h.pages) || h.pages[e.Page] != nil ||
			len(e.Tokens) != h.pageTokens || e.Parent.Child(e.Tokens) != e.Address:
		case e.Index == 0:
			reached = append(reached, i)
		default:
			kids[e.Parent] = append(kids[e.Parent], i)
		}
	}
	for n := 0; n < len(reached); n++ {
		e := &entries[reached[n]]
		if h.entries[e.Address] != nil || h.pages[e.Page] != nil {
			continue // twice
		}
		own := &entry{address: e.Address, parent: e.Parent, index: e.Index, tokens: slices.Clone(e.Tokens), page: e.Page}
		h.entries[e.Address], h.pages[e.Page] = own, own
		if p := h.entries[e.Parent]; e.Index > 0 && p != nil {
			p.kids++
		}
		for _, i := range kids[e.Address] {
			if entries[i].Index == e.Index+1 {
				reached = append(reached, i)
			}
		}
	}
	taken := 0
	for i := range entries { // in their order of use
		if e := h.entries[entries[i].Address]; e != nil && e.page == entries[i].Page {
			h.policy.Add(e.address)
			taken++
		}
	}
	h.free = slices.DeleteFunc(h.free, func(p int32) bool { return h.pages[p] != nil })
	return taken
}

// Unpin lets go of a page that Pin kept.
func (h *Host) Unpin(page int32) { h.pages[page].pins-- }

// Check looks at every invariant, for tests and fuzzers.
func (h *Host) Check() error {
	kids := map[Address]int{}
	for _, e := range h.entries {
		if h.pages[e.page] != e {
			return fmt.Errorf("cache: page %d does not hold %s", e.page, e.address)
		}
		if e.parent.Child(e.tokens) != e.address || len(e.tokens) != h.pageTokens {
			return fmt.Errorf("cache: %s has other tokens than its address says", e.address)
		}
		if e.pins < 0 || e.held {
			return fmt.Errorf("cache: %s is pinned %d times, held %v", e.address, e.pins, e.held)
		}
		if e.writer != nil && !slices.Contains(e.writer.writes, e) {
			return fmt.Errorf("cache: %s is to be written by somebody who does not know", e.address)
		}
		if e.index > 0 {
			if p := h.entries[e.parent]; p == nil || p.index != e.index-1 {
				return fmt.Errorf("cache: %s is page %d of a chain that nothing leads to", e.address, e.index)
			}
			if w := h.entries[e.parent].writer; w != nil && w != e.writer {
				return fmt.Errorf("cache: %s follows a page that another writes", e.address)
			}
			kids[e.parent]++
		}
	}
	for _, v := range h.views {
		for _, e := range v.reads {
			if h.pages[e.page] != e || e.pins < 1 {
				return fmt.Errorf("cache: page %d, which is read, is no longer %s", e.page, e.address)
			}
		}
	}
	for _, e := range h.entries {
		if e.kids != kids[e.address] {
			return fmt.Errorf("cache: %s counts %d followers and has %d", e.address, e.kids, kids[e.address])
		}
	}
	if len(h.entries)+len(h.free) != len(h.pages) {
		return fmt.Errorf("cache: %d pages hold something, %d are free, of %d", len(h.entries), len(h.free), len(h.pages))
	}
	for _, p := range h.free {
		if h.pages[p] != nil {
			return fmt.Errorf("cache: page %d is free and holds something", p)
		}
	}
	return nil
}
