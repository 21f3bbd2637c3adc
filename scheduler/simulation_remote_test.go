package scheduler

import (
	"slices"

	"llamero/cache"
	"llamero/engine"
)

// answer is what the remote tier will have said by its turn.
type answer struct {
	fetch
	most, due int
}

// warmed is a text whose pages others have computed.
type warmed struct {
	root cache.Address
	text []engine.Token
}

// arrivals are the remote tier's answers that have come.
func (s *simulation) arrivals() {
	w := s.w
	for i := 0; i < len(s.answers); {
		a := s.answers[i]
		if a.due > w.turn {
			i++
			continue
		}
		s.answers = slices.Delete(s.answers, i, i+1)
		if s.bend.lost {
			continue
		}
		found := w.answer(a.fetch, a.most)
		s.trace.line("turn %d: %d of %d pages for %d", w.turn, found, len(a.want), a.id)
		switch {
		case found == len(a.want):
			s.seen["all pages found in the remote tier"]++
		case found > 0:
			s.seen["some pages found in the remote tier"]++
		default:
			s.seen["no pages found in the remote tier"]++
		}
		if found < min(a.most, len(a.want)) && w.spoiled[a.want[found].Address] {
			s.seen["a spoilt page refused"]++
		}
		if w.s.requests[a.id] == nil {
			s.seen["an answer for a request that had gone"]++
		}
		w.check()
	}
}

// warm is what another gateway puts into the remote tier.
func (s *simulation) warm(text, pages int) {
	w := s.w
	if w.remote == nil {
		return
	}
	pt := s.Machine.pageTokens
	tokens := s.text(text)
	tokens = tokens[:min(pages, len(tokens)/pt)*pt]
	s.warmed = append(s.warmed, warmed{tenantRoot(text / 2), tokens})
	for i, a := range cache.Chain(tenantRoot(text/2), nil, tokens, pt) {
		page := make([]byte, len(w.page(0)))
		w.f.WritePage(page, tokens[:(i+1)*pt])
		w.stock(a, page)
	}
}

// spoil puts something else in a page's place.
func (s *simulation) spoil(a *act) {
	w := s.w
	if len(w.shelf) == 0 {
		return
	}
	at, other := w.shelf[a.N%len(w.shelf)], w.shelf[(a.N+1)%len(w.shelf)]
	page := slices.Clone(w.remote[at])
	switch {
	case page == nil:
		return // forgotten
	case a.Flaw == foreign && len(w.remote[other]) > 0:
		page = slices.Clone(w.remote[other])
	default:
		clear(page[len(page)/2:])
	}
	if !slices.Equal(page, w.remote[at]) {
		w.remote[at], w.spoiled[at] = page, true
	}
}
