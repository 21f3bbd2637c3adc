package scheduler

import (
	"slices"

	"llamero/cache"
	"llamero/engine"
)

// end checks what is left: nothing.
func (s *simulation) end() {
	w := s.w
	for _, l := range s.order {
		for c, f := range w.done[l.ID] {
			if f == FinishNone {
				w.t.Fatalf("request %d, choice %d never ended", l.ID, c)
			}
		}
		w.expect(l.Request)
		if f := w.done[l.ID][0]; l.PromptScores && (f == FinishStop || f == FinishLength) {
			w.expectScores(l.Request)
		}
	}
	sch := w.s
	if len(sch.requests)+len(sch.waiting)+len(sch.computing)+len(sch.trial)+len(sch.rest) > 0 {
		w.t.Fatalf("left over: %d requests, %d of whose answers wait, %d pages said to be computed, %d and %d on trial",
			len(sch.requests), len(sch.waiting), len(sch.computing), len(sch.trial), len(sch.rest))
	}
	st := sch.Stats()
	s.seen["a preemption"] += st.Preemptions
	s.seen["a page evicted"] += st.Pages.Evictions
	s.seen["a move"] += w.f.Moves
	s.armed = nil
	s.capacity()
	for len(w.writes) > 0 { // of what the last answers left
		w.turn++
		w.write()
	}
	s.pages()
}

// capacity shows that all slots can still be had at once, in whatever state they were
// left.
func (s *simulation) capacity() {
	w, l := s.w, s.w.s.cfg.Limits
	w.s.cfg.Guess = 0 // a token a step, so that none is at its end before all have begun
	const first ID = 1 << 20
	added := 0
	waits := func() bool { return w.s.Stats().Waiting > 0 }
	for added < l.Slots && !waits() { // a small pool lets fewer in
		r := Request{ID: first + ID(added), Prompt: prompt(s.Seed, 1), Choices: 1}
		s.lives[r.ID] = &life{Request: r, choices: make([]choiceLife, 1)}
		w.add(r)
		added++
		for range 3 { // the first may be busy with the pages of others
			if waits() {
				w.step()
			}
		}
	}
	if st := w.s.Stats(); st.Running == 0 || st.Running < l.Slots && l.Layout == engine.Split {
		w.t.Fatalf("%d requests run at once; there are %d slots", st.Running, l.Slots)
	}
	for i := range added {
		s.lives[first+ID(i)].choices[0].cancelled = true
		w.take(w.s.Cancel(first+ID(i), w.now))
	}
	w.step()
	if st := w.s.Stats(); st.Running+st.Waiting+st.Queued+st.TokensInUse > 0 {
		w.t.Fatalf("left over: %+v", st)
	}
}

// pages shows that every page holds what its address says, and that all can go.
func (s *simulation) pages() {
	w, h := s.w, s.w.s.cfg.Pages
	if h == nil {
		return
	}
	want := make([]byte, len(w.page(0)))
	whole := func(root cache.Address, text []engine.Token) {
		pt := h.PageTokens()
		chain := cache.Chain(root, nil, text, pt)
		for i, page := range h.Use(chain[:h.Match(chain, text)]) {
			if w.f.WritePage(want, text[:(i+1)*pt]); !slices.Equal(w.page(page), want) {
				w.t.Fatalf("page %d is not what was computed", page)
			}
		}
		h.Landed()
	}
	for _, l := range s.order {
		for _, got := range w.got[l.ID] {
			whole(l.Root, join(l.Prompt, got))
		}
	}
	for _, o := range s.warmed {
		whole(o.root, o.text)
	}
	all := prompt(s.Seed+1, h.Stats().Pages*h.PageTokens())
	chain := cache.Chain(cache.Root("all"), nil, all, h.PageTokens())
	if got := h.Put(cache.Root("all"), chain, 0, all); len(got) != len(chain) {
		w.t.Fatalf("%d of %d pages can be had", len(got), len(chain))
	}
	w.check()
}
