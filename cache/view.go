package cache

import "slices"

// View is one engine's side of an account that several may share. What it names in Use
// and Put is for the step that the engine runs next, or for whoever writes in its place,
// and ends with Landed or Lost:
//
//   - a page that is read stays where it is, whoever wants room;
//   - a page that is to be written is known to its writer alone. No other engine's page
//     follows it or takes its place, and if the writer is lost nobody has counted on it.
//
// With one view all pages are its own, and the account is that of one engine.
type View struct {
	*Host
	reads  []*entry // pinned
	writes []*entry // set aside; some may have gone for others of the same step
}

// View returns another engine's side of the account.
func (h *Host) View() *View {
	v := &View{Host: h}
	h.views = append(h.views, v)
	return v
}

// Match counts the pages of a chain, from its beginning, that the view's engine can
// begin with. tokens are those of the chain, at least.
func (v *View) Match(chain []Address, tokens []Token) int { return v.match(v, chain, tokens) }

// Coming counts the pages at the beginning of a chain that other engines are writing:
// they will be known soon, or never.
func (v *View) Coming(chain []Address) int {
	for i, a := range chain {
		if e := v.entries[a]; e == nil || !e.foreign(v) {
			return i
		}
	}
	return len(chain)
}

// Use returns where the pages of a chain are, all of which are known, and counts
// them as used, so that the last one goes first.
func (v *View) Use(chain []Address) []int32 {
	out := make([]int32, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		e := v.entries[chain[i]]
		out[i] = e.page
		v.policy.Touch(e.address)
		e.pins++
		v.reads = append(v.reads, e)
	}
	return out
}

// Put sets memory aside for the pages of a chain from first on, those before being
// known, unless they have gone. It returns where they are to be written, -1 for one
// that is known already; the list ends early where there is no room, and at a page that
// another engine is writing. tokens are those of the chain, at least.
func (v *View) Put(root Address, chain []Address, first int, tokens []Token) []int32 {
	if v.Match(chain[:first], tokens) < first {
		return nil
	}
	var held []*entry // nothing of this chain goes for the rest of it
	defer func() {
		for _, e := range slices.Backward(held) { // the last one goes first
			e.held = false
			v.policy.Touch(e.address)
		}
	}()
	hold := func(e *entry) {
		e.held = true
		held = append(held, e)
	}
	parent := root
	var before *entry
	for _, a := range chain[:first] {
		before = v.entries[a]
		hold(before)
		parent = a
	}
	var out []int32
	for i := first; i < len(chain); i++ {
		own := tokens[i*v.pageTokens : (i+1)*v.pageTokens]
		e := v.entries[chain[i]]
		switch {
		case e != nil && (e.foreign(v) || !slices.Equal(e.tokens, own)):
			return out // or a collision, or a fault: leave what is there
		case e != nil:
			out = append(out, -1)
		default:
			page, ok := v.room(v)
			if !ok {
				return out
			}
			e = &entry{address: chain[i], parent: parent, index: int32(i), tokens: slices.Clone(own), page: page, writer: v}
			v.entries[e.address], v.pages[page] = e, e
			v.writes = append(v.writes, e)
			v.policy.Add(e.address)
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

// Landed says that what was to be read has been read, and what was to be written,
// written: it is known to all from now on.
func (v *View) Landed() {
	v.unpin()
	for _, e := range v.writes {
		e.writer = nil
	}
	v.forgetWrites()
}

// Lost says that the step has failed: what it was to write is not there.
func (v *View) Lost() {
	v.unpin()
	for _, e := range v.writes {
		if v.pages[e.page] == e {
			v.forget(e)
		}
	}
	v.forgetWrites()
}

func (v *View) unpin() {
	for _, e := range v.reads {
		e.pins--
	}
	clear(v.reads)
	v.reads = v.reads[:0]
}

func (v *View) forgetWrites() {
	clear(v.writes)
	v.writes = v.writes[:0]
}

// forget takes a page out that was not written, with those that follow it, which are
// of the same step.
func (v *View) forget(e *entry) {
	for _, kid := range v.pages {
		if e.kids > 0 && kid != nil && kid.parent == e.address {
			v.forget(kid)
		}
	}
	v.remove(e)
}
