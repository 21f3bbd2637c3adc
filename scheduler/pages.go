package scheduler

import (
	"sort"

	"llamero/cache"
	"llamero/engine"
)

// Pages: computed KV is published under the address of its tokens, and a sequence
// begins with what is known of its own. A slot is read when its sequence leaves it, and
// now and then before, so that not all is lost if the engine dies: reading a slot's
// state is all or nothing in the split layout, so that is done as often as costs next
// to nothing beside what it saves, see checkpoint.
//
// Until then whoever wants what it has is forked from it, see donor: to the token, and
// in the unified layout into the same cells. What a sequence computes now counts as
// known: one that wants the same pages next waits for it, rather than compute them
// again beside it.

// followTokens is Config.Follow's default. It is low: the leader computes anyway and
// comes first, so waiting costs little, and thirty-two followers that each compute the
// rest themselves cost seconds.
const followTokens = 32

const (
	// insurance is the share of what it would take to compute tokens again that may be
	// spent to have them outlast the engine.
	insurance = 0.015
	// insuranceStep is the share of a step's time for that, beyond the first slot.
	insuranceStep = 0.05
)

// retired is a slot that its sequence has left and whose pages are to be published.
type retired struct {
	slot   int32
	root   cache.Address
	tokens []engine.Token // that the slot holds
	chain  []cache.Address
}

// pageTokens is 0 without pages.
func (s *Scheduler) pageTokens() int {
	if s.cfg.Pages == nil {
		return 0
	}
	return s.cfg.Pages.PageTokens()
}

// paged reports whether pages concern a sequence at all.
func (s *Scheduler) paged(q *sequence) bool { return s.cfg.Pages != nil && q.req.Paged }

// useful returns the pages that a sequence could begin with. Its last token is always
// computed, since logits are not kept: where it ends a page, that is cut off again.
func (s *Scheduler) useful(q *sequence) []cache.Address {
	if !s.paged(q) || q.scores() {
		return nil
	}
	n := len(q.tokens)
	if !s.cfg.Limits.Trims {
		n--
	}
	return q.chain[:min(n/s.pageTokens(), len(q.chain))]
}

// begun is how many tokens a sequence has that begins with so many pages.
func (s *Scheduler) begun(q *sequence, pages int) int {
	return min(pages*s.pageTokens(), len(q.tokens)-1)
}

// known counts the pages that a sequence can begin with.
func (s *Scheduler) known(q *sequence) int {
	chain := s.useful(q)
	if len(chain) == 0 {
		return 0
	}
	return s.cfg.Pages.Match(chain, q.tokens)
}

// donor is the running sequence that holds most of what another could begin with, and
// how many tokens of it; nil if that is not a page.
func (s *Scheduler) donor(q *sequence) (from *sequence, tokens int) {
	chain := s.useful(q)
	if len(chain) == 0 || !s.cfg.Limits.Trims || q.apart() {
		return nil, 0
	}
	pt := s.pageTokens()
	for _, o := range s.slots {
		if o == nil || !s.paged(o) || o.req.Root != q.req.Root {
			continue
		}
		most := min(o.computed, len(q.tokens)-1)
		// An address stands for all before it.
		pages := sort.Search(min(most/pt, len(chain), len(o.chain)), func(i int) bool { return chain[i] != o.chain[i] })
		n := pages * pt
		for n < most && q.tokens[n] == o.tokens[n] {
			n++
		}
		if n >= pt && n > tokens {
			from, tokens = o, n
		}
	}
	return from, tokens
}

// source is whom a sequence should be forked from, and how many tokens; nil if it
// should begin with the pages that are known. In the split layout a fork copies all
// that the other holds, which what it spares must be worth.
func (s *Scheduler) source(q *sequence) (from *sequence, tokens int) {
	from, n := s.donor(q)
	known := s.begun(q, s.known(q))
	if from == nil || n < known {
		return nil, 0
	}
	if s.cfg.Limits.Layout == engine.Split {
		spares := s.costs.chunk(len(q.tokens)-known, known) - s.costs.chunk(len(q.tokens)-n, n)
		if n == known || spares < s.costs.copy(moving(from.computed))-s.costs.copy(restoring(known)) {
			return nil, 0
		}
	}
	return from, n
}

// reach counts the pages that a sequence can begin with, those that others hold
// included.
func (s *Scheduler) reach(q *sequence) int {
	n := s.known(q)
	if _, tokens := s.donor(q); tokens > 0 {
		n = max(n, tokens/s.pageTokens())
	}
	return n
}

// computed returns the pages of what a sequence has computed.
func (s *Scheduler) computed(q *sequence) []cache.Address {
	q.chain = cache.Chain(q.req.Root, q.chain, q.tokens[:q.computed], s.pageTokens())
	n := q.computed / s.pageTokens()
	return q.chain[:n:n]
}

// follows reports whether another sequence computes what q wants next, and enough of it
// to be worth waiting for.
func (s *Scheduler) follows(q *sequence) bool {
	chain, n := s.useful(q), s.reach(q)
	if n >= len(chain) || q.apart() {
		return false
	}
	if s.cfg.Pages.Coming(chain[n:])*s.pageTokens() >= s.cfg.Follow {
		return true // another engine's slot is being saved: a step, and they are there
	}
	leader := s.computing[chain[n]]
	if leader == nil {
		return false
	}
	common := n
	for common < min(len(chain), len(leader.chain)) && leader.chain[common] == chain[common] {
		common++
	}
	return (common-n)*s.pageTokens() >= s.cfg.Follow
}

// Fetch returns the pages that a waiting request could begin with and that are not
// known here, for somebody to look for elsewhere; nil if there is nothing worth it:
// if computing them takes less than the asking, which takes so many nanoseconds. The
// request waits until Fetched, and so do others that want the same pages.
func (s *Scheduler) Fetch(id ID, asking int64) []cache.Wanted {
	req := s.requests[id]
	if req == nil || req.started() {
		return nil
	}
	q := req.sequences[0]
	if s.follows(q) {
		return nil
	}
	pt, n, chain := s.pageTokens(), s.known(q), s.useful(q)
	missing := (len(chain) - s.reach(q)) * pt
	if missing <= 0 || missing < s.cfg.Follow || s.costs.chunk(missing, n*pt) < float64(asking) {
		return nil
	}
	var want []cache.Wanted
	for i := n; i < len(chain); i++ {
		want = append(want, cache.Wanted{Address: chain[i], Tokens: q.tokens[i*pt : (i+1)*pt]})
		if s.computing[chain[i]] == nil {
			s.computing[chain[i]] = q
		}
	}
	q.fetching, q.fetchedFrom = true, n
	return want
}

// Fetched ends what Fetch began: so many of the pages, from the first on, have been
// found. It returns where each is to be written before the next plan is made, and
// Stored called; -1 needs no writing. There may be fewer, for want of memory, or none, if
// the request has gone.
func (s *Scheduler) Fetched(id ID, pages int) []int32 {
	req := s.requests[id]
	if req == nil || !req.sequences[0].fetching {
		return nil
	}
	q := req.sequences[0]
	q.fetching = false
	s.disclaim(q, len(q.chain))
	end := min(q.fetchedFrom+pages, len(q.chain))
	return s.cfg.Pages.Put(q.req.Root, q.chain[:end], min(q.fetchedFrom, end), q.tokens)
}

// Stored says that the pages that Fetched named have been written.
func (s *Scheduler) Stored() { s.cfg.Pages.Landed() }

// Saved returns the host pages that have been written since it was last called.
func (s *Scheduler) Saved() []int32 {
	pages := s.landed
	s.landed = nil
	return pages
}

// keep notes that the flight's edits are done.
func (s *Scheduler) keep() {
	if s.cfg.Pages != nil {
		s.cfg.Pages.Landed()
	}
	if s.cfg.KeepSaved {
		for _, p := range s.saved {
			if p >= 0 {
				s.landed = append(s.landed, p)
			}
		}
	}
	s.saved = nil
}

// restore begins a sequence, whose slot has just been opened, with the pages that
// are known.
func (b *builder) restore(q *sequence, slot int32) {
	s := b.s
	n := s.known(q)
	if n == 0 {
		return
	}
	tokens := q.tokens[:n*s.pageTokens()]
	b.edit(engine.Edit{Kind: engine.EditRestore, Slot: slot, Tokens: tokens, Pages: s.cfg.Pages.Use(q.chain[:n])})
	s.cells.Grow(slot, len(tokens))
	b.copies.add(restoring(len(tokens)))
	if q.computed = s.resume(q, s.begun(q, n)); q.computed < len(tokens) {
		b.edit(engine.Edit{Kind: engine.EditTrim, Slot: slot, Len: int32(q.computed)})
		s.cells.Cut(slot, q.computed)
	}
}

// resume returns where a sequence goes on that could begin with n tokens: there, or a
// tile before its end, if computing some tokens again is predicted to cost less than a
// tail that is short of a tile. It begins with a token at least.
func (s *Scheduler) resume(q *sequence, n int) int {
	at := len(q.tokens) - tileRows
	if s.cfg.Limits.Layout != engine.Split || !s.cfg.Limits.Trims || at < 1 || at >= n {
		return n
	}
	if s.costs.chunk(tileRows, at) < s.costs.chunk(len(q.tokens)-n, n)*roundGain {
		return at
	}
	return n
}

// fork begins a sequence, whose slot has just been opened, with the first n tokens of
// another.
func (b *builder) fork(from, q *sequence, slot int32, n int) {
	n = b.s.resume(q, n)
	b.edit(engine.Edit{Kind: engine.EditFork, Slot: from.slot, To: slot, Len: int32(n)})
	b.s.cells.Fork(from.slot, slot, n)
	if b.s.cfg.Limits.Layout == engine.Split {
		b.copies.add(moving(from.computed))
	}
	q.computed, q.read = n, min(n, from.read)
}

// claim notes that a sequence computes the rest of its prompt's pages.
func (s *Scheduler) claim(q *sequence) {
	if !s.paged(q) {
		return
	}
	pt := s.pageTokens()
	q.published = s.known(q)
	for i := q.computed / pt; i < len(q.req.Prompt)/pt; i++ {
		if a := q.chain[i]; s.computing[a] == nil {
			s.computing[a] = q
		}
	}
}

// disclaim forgets what claim noted of a sequence's first pages.
func (s *Scheduler) disclaim(q *sequence, pages int) {
	for _, a := range q.chain[:min(pages, len(q.chain))] {
		if s.computing[a] == q {
			delete(s.computing, a)
		}
	}
}

// retire keeps in mind what a slot holds that its sequence leaves.
func (s *Scheduler) retire(q *sequence) {
	if !s.paged(q) {
		return
	}
	if q.computed/s.pageTokens() > q.published {
		s.retired = append(s.retired, retired{q.slot, q.req.Root, q.tokens[:q.computed:q.computed], s.computed(q)})
	}
	s.disclaim(q, len(q.chain))
}

// publish saves the pages of slots that their sequences have left.
func (b *builder) publish() {
	s := b.s
	if s.cfg.Pages == nil {
		return
	}
	for _, r := range s.retired {
		b.save(r.slot, r.root, r.chain, r.tokens)
	}
	s.retired = s.retired[:0]
}

// checkpoint saves what running answers, and their prompts, have computed since they were
// saved last, where that has become dear enough: the engine's death costs them the rest.
// Only the reading of the slot counts as a price, since the pages are written sooner or
// later in any case. It grows with all that the slot holds, so short sequences are saved
// page by page and long ones many pages at a time.
func (b *builder) checkpoint() {
	s := b.s
	if s.cfg.Pages == nil || !s.cfg.Insure {
		return
	}
	left := insuranceStep * float64(s.cfg.TargetITL)
	for _, q := range s.slots {
		if q == nil || !s.paged(q) || !q.decodes() {
			continue
		}
		saved := q.published * s.pageTokens()
		fresh := q.computed/s.pageTokens()*s.pageTokens() - saved
		if fresh <= 0 || s.costs.copy(saving(q.computed, 0)) > insurance*s.costs.chunk(fresh, saved) {
			continue
		}
		b.publishSlot(q)
		if left -= s.costs.copy(saving(q.computed, fresh)); left < 0 {
			return
		}
	}
}

// publishSlot saves all whole pages of a sequence.
func (b *builder) publishSlot(q *sequence) {
	s := b.s
	if !s.paged(q) || q.computed/s.pageTokens() <= q.published {
		return
	}
	chain := s.computed(q)
	b.save(q.slot, q.req.Root, chain, q.tokens[:q.computed])
	// Without room for them they are not there: nobody needs to wait for that.
	s.disclaim(q, len(chain))
	q.published = len(chain)
}

// save writes what is not known of a chain out of a slot.
func (b *builder) save(slot int32, root cache.Address, chain []cache.Address, tokens []engine.Token) {
	h := b.s.cfg.Pages
	first := h.Match(chain, tokens)
	if first == len(chain) {
		return
	}
	pages := h.Put(root, chain, first, tokens)
	if len(pages) == 0 {
		return
	}
	b.edit(engine.Edit{Kind: engine.EditSave, Slot: slot, First: int32(first), Pages: pages})
	b.saved = append(b.saved, pages...)
	b.copies.add(saving(len(tokens), len(pages)*b.s.pageTokens()))
}
