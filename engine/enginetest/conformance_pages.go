package enginetest

import (
	"slices"

	"llamero/engine"
)

// Cases about host pages. Engines without pages skip them.

// paged returns how many whole pages a head has, and how many tokens they are.
func (s *suite) paged() (pages, tokens int) {
	s.Helper()
	if s.l.Pages == 0 {
		s.Skip("the engine has no pages")
	}
	pages = head / s.l.PageTokens
	if pages < 2 || s.l.Pages < 2*pages {
		s.Fatalf("pages of %d tokens, %d of them: too few for this suite", s.l.PageTokens, s.l.Pages)
	}
	return pages, pages * s.l.PageTokens
}

func numbers(first, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(first + i)
	}
	return out
}

// restore opens a slot and fills it with the first pages of a prompt.
func (s *suite) restore(slot, prompt int, pages []int32) {
	s.Helper()
	s.open(slot, greedy)
	s.edit(engine.Edit{Kind: engine.EditRestore, Slot: int32(slot), Tokens: s.head(prompt)[:len(pages)*s.l.PageTokens], Pages: pages})
}

// rest computes what pages do not hold of a prompt's head.
func (s *suite) rest(what string, slot, prompt, tokens int) {
	s.Helper()
	if tokens < head {
		s.same(what, s.feed(slot, tokens, s.head(prompt)[tokens:]), s.base[prompt][0], false)
	}
	s.goOn(what, slot, prompt, 0, tokens == head)
}

// pages: a prompt comes back from pages, while and after its slot lives, more than
// once, and two prompts do not mix.
func (s *suite) pages() {
	pages, tokens := s.paged()
	first, second := numbers(0, pages), numbers(pages, pages)
	slices.Reverse(second) // their order is the scheduler's business
	s.prompt(0, 0)
	s.prompt(1, 1)
	s.edit(
		engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: first},
		engine.Edit{Kind: engine.EditSave, Slot: 1, Pages: second},
	)
	s.restore(2, 0, first)
	s.restore(3, 1, second)
	s.rest("restored", 2, 0, tokens)
	s.rest("restored beside it", 3, 1, tokens)
	s.goOn("saved", 0, 0, 0, true)
	s.clear()
	s.restore(1, 0, first)
	s.rest("restored after its slot was dropped", 1, 0, tokens)
	s.clear()
	s.restore(0, 0, first[:1])
	s.rest("restored from one page", 0, 0, s.l.PageTokens)
}

// pagesAndMoves: a slot that was restored moves, one that moved is saved, and the
// slot that it left is restored into.
func (s *suite) pagesAndMoves() {
	pages, tokens := s.paged()
	first, second := numbers(0, pages), numbers(pages, pages)
	s.prompt(0, 0)
	s.prompt(2, 1)
	s.edit(
		engine.Edit{Kind: engine.EditMove, Slot: 0, To: 1},
		engine.Edit{Kind: engine.EditSave, Slot: 1, Pages: first},
		engine.Edit{Kind: engine.EditSave, Slot: 2, Pages: second},
		engine.Edit{Kind: engine.EditOpen, Slot: 0, Len: head, Sampling: greedy},
		engine.Edit{Kind: engine.EditRestore, Slot: 0, Tokens: s.head(1)[:tokens], Pages: second},
		engine.Edit{Kind: engine.EditMove, Slot: 0, To: 3},
		engine.Edit{Kind: engine.EditOpen, Slot: 0, Len: head, Sampling: greedy},
		engine.Edit{Kind: engine.EditRestore, Slot: 0, Tokens: s.head(0)[:tokens], Pages: first},
	)
	s.rest("moved, then restored into the source slot", 0, 0, tokens)
	s.goOn("moved, then saved", 1, 0, 0, true)
	s.rest("restored, then moved", 3, 1, tokens)
}

// partOfThePages: pages that are left out keep what they hold.
func (s *suite) partOfThePages() {
	pages, tokens := s.paged()
	all := numbers(0, pages)
	s.prompt(0, 0)
	s.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: all[:1]})
	s.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, First: 1, Pages: all[1:]})
	s.prompt(1, 1)
	other := numbers(0, pages)
	other[0] = -1 // the first page stays the first prompt's
	other[1] = int32(pages)
	if pages > 2 {
		other = other[:2]
	}
	s.edit(engine.Edit{Kind: engine.EditSave, Slot: 1, Pages: other})
	s.restore(2, 0, all)
	s.rest("saved in two parts", 2, 0, tokens)
}

// wrongPages is the negative control: pages of another prompt, and pages in another
// order, are seen.
func (s *suite) wrongPages() {
	pages, tokens := s.paged()
	first, second := numbers(0, pages), numbers(pages, pages)
	s.prompt(0, 0)
	s.prompt(1, 1)
	s.edit(
		engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: first},
		engine.Edit{Kind: engine.EditSave, Slot: 1, Pages: second},
	)
	swapped := slices.Clone(first)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	foreign := slices.Clone(first)
	foreign[pages-1] = second[pages-1]
	for slot, wrong := range [][]int32{swapped, foreign} {
		s.restore(slot+2, 0, wrong)
		last := s.base[0][1]
		if tokens < head {
			s.feed(slot+2, tokens, s.head(0)[tokens:])
		}
		if got := s.feed(slot+2, head, s.tail(0, 0)); distance(got, last) == 0 {
			s.Errorf("wrong pages %v go unseen", wrong)
		}
	}
}

// editsAlone: a plan without passes says that it is done.
func (s *suite) editsAlone() {
	outs, err := s.run(engine.Plan{Edits: []engine.Edit{{Kind: engine.EditDrop, Slot: 0}}})
	if err != nil || len(outs) != 1 || outs[0].Pass != -1 || outs[0].Step != s.step {
		s.Errorf("%v, %+v", err, outs)
	}
}
