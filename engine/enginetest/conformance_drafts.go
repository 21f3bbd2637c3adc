package enginetest

import "llamero/engine"

// Cases about drafts. Engines without a draft model skip them.

// drafting is how many tokens the cases have drafted.
const drafting = 4

// draft has a row guess behind token i of a prompt's tail, and checks what comes of
// it. The slot is left as it was.
func (s *suite) draft(what string, slot, prompt, i int) {
	s.Helper()
	row := sampling(slot, head+i, s.tail(prompt, i))
	row.Draft = drafting
	s.drafted(what, s.pass(row)[0], prompt, i)
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: int32(slot), Len: int32(head + i)})
}

// drafted checks what a row gave that had tokens drafted behind token i of a prompt's tail.
func (s *suite) drafted(what string, r engine.RowOutput, prompt, i int) {
	s.Helper()
	if len(r.Drafted) != drafting || len(r.Sampled) < 1 || len(r.Sampled) > drafting+1 {
		s.Fatalf("%s: %d tokens were drafted and %d drawn; %d were to be drafted", what, len(r.Drafted), len(r.Sampled), drafting)
	}
	right := len(r.Sampled) - 1
	for j, t := range r.Drafted[:right] {
		if r.Sampled[j].Token != t {
			s.Errorf("%s: token %d goes on behind a draft that was wrong", what, j)
		}
	}
	if right < drafting && r.Sampled[right].Token == r.Drafted[right] {
		s.Errorf("%s: drafted token %d was right and is not kept", what, right)
	}
	if most := int32(head + i + 1 + right); r.Read < 1 || r.Read > most {
		s.Errorf("%s: the draft model has read %d of %d tokens", what, r.Read, most)
	}
	s.same(what, r.Sampled[0], s.base[prompt][i+1], false)
	s.differ(what, r.Sampled[0], s.base[1-prompt][i+1])
	s.proposed += drafting
	s.right += right
}

// likeItself holds the share of drafts that were right against what is to be expected of
// a model that drafts for itself: a draft that has lost its place says something else.
func (s *suite) likeItself() {
	s.Helper()
	s.Logf("%d of %d drafted tokens were right", s.right, s.proposed)
	if s.opt.DraftsItself && s.right < s.proposed*4/5 {
		s.Errorf("%d of %d drafted tokens were right, though the model drafts for itself", s.right, s.proposed)
	}
	s.proposed, s.right = 0, 0
}

// withDrafts skips a case where there is no draft model.
func (s *suite) withDrafts() {
	s.Helper()
	if s.l.Draft < drafting {
		s.Skip("the engine has no draft model")
	}
}

// drafts: what is drafted and wrong leaves no trace, alone and beside others.
func (s *suite) drafts() {
	s.withDrafts()
	var rows []engine.Row
	for p := range s.base {
		s.prompt(p, p)
		s.draft("drafted alone", p, p, 0)
		row := sampling(p, head, s.tail(p, 0))
		row.Draft = drafting
		rows = append(rows, row)
	}
	for p, r := range s.pass(rows...) {
		s.drafted("drafted for both", r, p, 0)
		s.edit(engine.Edit{Kind: engine.EditTrim, Slot: int32(p), Len: head + 1})
	}
	for p := range s.base {
		s.goOn("after drafts", p, p, 1, false)
	}
	s.likeItself()
}

// draftsFollow: the draft model goes where its slot goes.
func (s *suite) draftsFollow() {
	s.withDrafts()
	drop := func(slot int32) { s.edit(engine.Edit{Kind: engine.EditDrop, Slot: slot}) }
	s.prompt(0, 0)
	s.draft("read", 0, 0, 0)
	s.edit(engine.Edit{Kind: engine.EditMove, Slot: 0, To: 2})
	s.draft("moved", 2, 0, 0)
	s.prompt(0, 1)
	s.draft("in its place", 0, 1, 0)
	s.open(3, greedy)
	s.edit(engine.Edit{Kind: engine.EditFork, Slot: 2, To: 3, Len: head})
	s.draft("forked", 3, 0, 0)
	drop(2)
	s.draft("forked from what is gone", 3, 0, 0)
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 3, Len: head / 2})
	s.same("cut, the target", s.feed(3, head/2, s.head(0)[head/2:]), s.base[0][0], false)
	s.draft("cut and read again", 3, 0, 0)
	drop(3)
	s.prompt(3, 1)
	s.draft("another text", 3, 1, 0)
	s.likeItself()
}

// draftsAndPages: so it does by way of host pages, whether it had read them or not.
func (s *suite) draftsAndPages() {
	s.withDrafts()
	pages, tokens := s.paged()
	for _, read := range []bool{true, false} {
		for p := range s.base {
			s.clear()
			s.prompt(0, p)
			if read {
				s.draft("read", 0, p, 0)
			}
			saved := numbers(p*pages, pages)
			s.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: saved})
			s.clear()
			s.restore(1, p, saved)
			if tokens < head {
				s.same("restored", s.feed(1, tokens, s.head(p)[tokens:]), s.base[p][0], false)
			}
			s.draft("restored", 1, p, 0)
		}
	}
	s.likeItself()
}
