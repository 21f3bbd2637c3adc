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

// Host is the account of a block of memory of so many pages, numbered from 0. A
// page is known from the moment that memory is set aside for it: its owner sees to
// it that nobody reads before it is written. It is for one goroutine.
type Host struct {
	pageTokens int
	policy     Policy
	entries    map[Address]*entry
	pages      []*entry // by number; nil is free
	free       []int32
	evictions  int
}

// entry is a page that the memory holds.
type entry struct {
	address, parent Address
	index           int32   // in its chain
	tokens          []Token // compared on every hit
	page            int32
	kids            int  // entries whose parent this is
	pins            int  // of those who read it
	held            bool // by the Put that runs
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

// Match counts the pages that are known of a chain, from its beginning. tokens are
// those of the chain, at least.
func (h *Host) Match(chain []Address, tokens []Token) int {
	for i, a := range chain {
		e := h.entries[a]
		if e == nil || !slices.Equal(e.tokens, tokens[i*h.pageTokens:(i+1)*h.pageTokens]) {
			return i
		}
	}
	return len(chain)
}

// Use returns where the pages of a chain are, all of which are known, and counts
// them as used, so that the last one goes first.
func (h *Host) Use(chain []Address) []int32 {
	out := make([]int32, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		out[i] = h.entries[chain[i]].page
		h.policy.Touch(chain[i])
	}
	return out
}

// Put sets memory aside for the pages of a chain from first on, those before being
// known, unless they have gone. It returns where they are to be written, -1 for one
// that is known already; the list ends early where there is no room. tokens are
// those of the chain, at least.
func (h *Host) Put(root Address, chain []Address, first int, tokens []Token) []int32 {
	if h.Match(chain[:first], tokens) < first {
		return nil
	}
	var held []*entry // nothing of this chain goes for the rest of it
	defer func() {
		for _, e := range slices.Backward(held) { // the last one goes first
			e.held = false
			h.policy.Touch(e.address)
		}
	}()
	hold := func(e *entry) {
		e.held = true
		held = append(held, e)
	}
	parent := root
	var before *entry
	for _, a := range chain[:first] {
		before = h.entries[a]
		hold(before)
		parent = a
	}
	var out []int32
	for i := first; i < len(chain); i++ {
		own := tokens[i*h.pageTokens : (i+1)*h.pageTokens]
		e := h.entries[chain[i]]
		switch {
		case e != nil && !slices.Equal(e.tokens, own):
			return out // a collision, or a fault: leave what is there
		case e != nil:
			out = append(out, -1)
		default:
			page, ok := h.room()
			if !ok {
				return out
			}
			e = &entry{address: chain[i], parent: parent, index: int32(i), tokens: slices.Clone(own), page: page}
			h.entries[e.address], h.pages[page] = e, e
			h.policy.Add(e.address)
			if before != nil {
				before.kids++
			}
			out = append(out, page)
		}
		hold(e)
		parent, before = chain[i], e
	}
	return out
}

// room finds a free page, or one that may go.
func (h *Host) room() (int32, bool) {
	for range len(h.entries) {
		if len(h.free) > 0 {
			break
		}
		a, ok := h.policy.Oldest()
		if !ok {
			break
		}
		e := h.entries[a]
		if e.held || e.pins > 0 || e.kids > 0 {
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

// Forget takes pages out, by number, with all that follows them: what was to be
// written there was not.
func (h *Host) Forget(pages []int32) {
	for _, p := range pages {
		if p >= 0 && h.pages[p] != nil {
			h.forget(h.pages[p])
		}
	}
}

func (h *Host) forget(e *entry) {
	for _, kid := range h.pages {
		if e.kids > 0 && kid != nil && kid.parent == e.address {
			h.forget(kid)
		}
	}
	h.remove(e)
}

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
		if e.index > 0 {
			if p := h.entries[e.parent]; p == nil || p.index != e.index-1 {
				return fmt.Errorf("cache: %s is page %d of a chain that nothing leads to", e.address, e.index)
			}
			kids[e.parent]++
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
