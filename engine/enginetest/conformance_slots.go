package enginetest

import (
	"context"
	"errors"
	"fmt"

	"llamero/engine"
)

// Cases about slots: what edits do, and what errors leave as it was.

// move: a sequence goes on in another slot as if nothing had been.
func (s *suite) move() {
	last := s.l.Slots - 1
	s.prompt(0, 0)
	s.edit(engine.Edit{Kind: engine.EditMove, Slot: 0, To: int32(last)})
	s.goOn("moved", last, 0, 0, true)
	s.edit(engine.Edit{Kind: engine.EditMove, Slot: int32(last), To: 1})
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 1, Len: head + tail}) // all of it is there
}

// moveAndReuse: the slot that a move left takes another request at once.
func (s *suite) moveAndReuse() {
	s.prompt(0, 0)
	s.edit(
		engine.Edit{Kind: engine.EditMove, Slot: 0, To: 2},
		engine.Edit{Kind: engine.EditOpen, Slot: 0, Len: head, Sampling: greedy},
	)
	s.same("in the slot that a move left", s.feed(0, 0, s.head(1)), s.base[1][0], true)
	for i := range tail {
		for slot := 0; slot <= 2; slot += 2 {
			prompt := 1 - slot/2
			what := fmt.Sprintf("slot %d after a move", slot)
			got := s.feed(slot, head+i, s.tail(prompt, i))
			s.same(what, got, s.base[prompt][i+1], true)
			s.differ(what, got, s.base[1-prompt][i+1])
		}
	}
	// A chain in one step: 0 → 1, 2 → 0, 1 → 3.
	s.edit(
		engine.Edit{Kind: engine.EditMove, Slot: 0, To: 1},
		engine.Edit{Kind: engine.EditMove, Slot: 2, To: 0},
		engine.Edit{Kind: engine.EditMove, Slot: 1, To: 3},
	)
	if s.l.Trims {
		s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: head}, engine.Edit{Kind: engine.EditTrim, Slot: 3, Len: head})
		s.goOn("after a chain of moves", 0, 0, 0, true)
		s.goOn("after a chain of moves", 3, 1, 0, true)
	}
}

// fork: a copy of a whole prompt goes its own way.
func (s *suite) fork() {
	s.prompt(0, 0)
	s.open(1, greedy)
	s.open(2, greedy)
	s.edit(
		engine.Edit{Kind: engine.EditFork, Slot: 0, To: 1, Len: head},
		engine.Edit{Kind: engine.EditFork, Slot: 1, To: 2, Len: head},
	)
	s.feed(1, head, s.tail(1, 0)) // another way
	s.goOn("the source of a fork", 0, 0, 0, true)
	s.goOn("a fork of a fork", 2, 0, 0, true)
	// Source and copy do not share a fate.
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0}, engine.Edit{Kind: engine.EditDrop, Slot: 2})
	s.prompt(0, 1)
	first := s.feed(1, head+1, s.tail(1, 1))
	s.clear()
	s.prompt(3, 0)
	s.feed(3, head, s.tail(1, 0))
	s.same("a fork whose source is gone", first, s.feed(3, head+1, s.tail(1, 1)), true)
}

// partialFork: the first part of a prompt, then the rest of another or the same.
func (s *suite) partialFork() {
	if !s.l.Trims {
		s.Skip("the model cannot be trimmed")
	}
	const part = 32
	s.prompt(0, 0)
	s.open(1, greedy)
	s.edit(engine.Edit{Kind: engine.EditFork, Slot: 0, To: 1, Len: part})
	s.same("a partial fork", s.feed(1, part, s.head(0)[part:]), s.base[0][0], false)
	s.goOn("a partial fork", 1, 0, 0, false)
	s.goOn("the source of a partial fork", 0, 0, 0, true)
}

// trim: what was cut off is gone.
func (s *suite) trim() {
	if !s.l.Trims {
		s.Skip("the model cannot be trimmed")
	}
	const part = 16
	mixed := append(append([]engine.Token{}, s.head(0)[:part]...), s.head(1)[part:]...)
	s.open(0, greedy)
	s.pass(engine.Row{Slot: 0, Tokens: s.head(0)[:part]})
	s.pass(engine.Row{Slot: 0, Pos: part, Tokens: s.head(0)[part:]})
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: part})
	got := s.feed(0, part, mixed[part:])
	s.open(1, greedy)
	s.pass(engine.Row{Slot: 1, Tokens: mixed[:part]})
	want := s.feed(1, part, mixed[part:])
	s.same("trimmed", got, want, true)
	s.differ("trimmed", got, s.base[0][0])
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: 0})
	s.same("trimmed to nothing", s.feed(0, 0, s.head(1)), s.base[1][0], true)
	s.goOn("trimmed to nothing", 0, 1, 0, true)
}

// dropAndReopen: nothing of the last request stays.
func (s *suite) dropAndReopen() {
	s.prompt(0, 0)
	s.feed(0, head, s.tail(0, 0))
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0})
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0}) // twice is allowed
	s.same("reopened", s.prompt(0, 1), s.base[1][0], true)
	s.goOn("reopened", 0, 1, 0, true)
	// Settings go with the request.
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0})
	s.open(0, engine.Sampling{})
	if got := s.feed(0, 0, s.head(1)); len(got.Top) > 0 {
		s.Errorf("the settings of the request before: %+v", got)
	}
}

// refusals: a plan that is wrong is refused, and nothing has changed.
func (s *suite) refusals() {
	s.prompt(0, 0)
	s.prompt(1, 1)
	vocab := engine.Token(s.l.Vocab)
	one := []engine.Token{1}
	pass := func(rows ...engine.Row) engine.Plan {
		return engine.Plan{Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: rows}}}
	}
	edit := func(e engine.Edit) engine.Plan { return engine.Plan{Edits: []engine.Edit{e}} }
	plans := []struct {
		name string
		plan engine.Plan
	}{
		{"no rows", pass()},
		{"a slot that does not exist", pass(sampling(s.l.Slots+s.l.Scratch, 0, one))},
		{"a negative slot", pass(sampling(-1, 0, one))},
		{"a free slot", pass(sampling(2, 0, one))},
		{"a row without tokens", pass(sampling(0, head, nil))},
		{"a position skipped", pass(sampling(0, head+1, one))},
		{"a position again", pass(sampling(0, head-1, one))},
		{"a token beyond the vocabulary", pass(sampling(0, head, []engine.Token{vocab}))},
		{"a negative token", pass(sampling(0, head, []engine.Token{-1}))},
		{"a score beyond the vocabulary", pass(engine.Row{Slot: 0, Pos: head, Tokens: one, Score: true, Next: vocab})},
		{"a slot twice", pass(sampling(0, head, one), sampling(0, head+1, one))},
		{"an idle row that samples", pass(engine.Row{Slot: 0, Pos: head, Tokens: one, Idle: true, Sample: true})},
		{"more than a slot holds", pass(sampling(0, head, make([]engine.Token, s.l.SlotTokens-head+1)))},
		{"a guess that nobody draws", pass(engine.Row{Slot: 0, Pos: head, Tokens: one, Guess: one})},
		{"a guess beyond the vocabulary", pass(engine.Row{Slot: 0, Pos: head, Tokens: one, Sample: true, Guess: []engine.Token{vocab}})},
		{"a guess beyond the slot", pass(engine.Row{Slot: 0, Pos: head, Tokens: one, Sample: true, Guess: make([]engine.Token, s.l.SlotTokens-head)})},
		{"an edit of no kind", edit(engine.Edit{})},
		{"open of an open slot", edit(engine.Edit{Kind: engine.EditOpen, Slot: 0})},
		{"open of a scratch slot", edit(engine.Edit{Kind: engine.EditOpen, Slot: int32(s.l.Slots)})},
		{"open with a wrong temperature", edit(engine.Edit{Kind: engine.EditOpen, Slot: 2, Sampling: engine.Sampling{Temperature: -1}})},
		{"trim to more", edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: head + 1})},
		{"move onto another", edit(engine.Edit{Kind: engine.EditMove, Slot: 0, To: 1})},
		{"fork into a free slot", edit(engine.Edit{Kind: engine.EditFork, Slot: 0, To: 2, Len: 4})},
		{"restore onto tokens", edit(engine.Edit{Kind: engine.EditRestore, Slot: 0, Tokens: one})},
	}
	if s.l.Layout == engine.Split {
		plans = append(plans, []struct {
			name string
			plan engine.Plan
		}{
			{"rows in decreasing order", pass(sampling(1, head, one), sampling(0, head, one))},
			{"rows with a hole", pass(sampling(1, head, one), idle(3, 0, 1))},
			{"rows of unequal length", pass(sampling(0, head, one), sampling(1, head, []engine.Token{1, 2}))},
		}...)
	}
	if outputs := s.l.PassOutputs + 1; outputs <= s.l.PassTokens && outputs <= s.l.SlotTokens-head {
		plans = append(plans, struct {
			name string
			plan engine.Plan
		}{"more outputs than a pass has", pass(engine.Row{Slot: 0, Pos: head, Tokens: make([]engine.Token, outputs), Score: true, Next: 1})})
	}
	for _, c := range plans {
		outs, err := s.run(c.plan)
		if !errors.Is(err, engine.ErrPlan) {
			s.Errorf("%s: %v, want %v", c.name, err, engine.ErrPlan)
		}
		if len(outs) > 0 {
			s.Errorf("%s: an output came before the refusal", c.name)
		}
	}
	s.goOn("after refusals", 0, 0, 0, true)
	s.goOn("after refusals", 1, 1, 0, true)
}

// failedPass: passes before the one that failed have happened, and the engine goes on.
func (s *suite) failedPass() {
	s.prompt(0, 0)
	outs, err := s.run(engine.Plan{Passes: []engine.Pass{
		{Kind: engine.PassDecode, Rows: []engine.Row{sampling(0, head, s.tail(0, 0))}},
		{Kind: engine.PassPrefill, Rows: []engine.Row{sampling(2, 0, s.head(1))}}, // not open
		{Kind: engine.PassDecode, Rows: []engine.Row{sampling(0, head+1, s.tail(0, 1))}},
	}})
	if !errors.Is(err, engine.ErrPlan) || len(outs) != 1 {
		s.Fatalf("%d outputs and %v; want the first pass and %v", len(outs), err, engine.ErrPlan)
	}
	s.same("the pass before the failed one", s.drawn(outs[0].Rows[0]), s.base[0][1], true)
	s.goOn("after a failed pass", 0, 0, 1, true)
	s.prompt(2, 1)
	s.goOn("a newcomer after a failed pass", 2, 1, 0, true)
}

func (s *suite) cancelledContext() {
	s.prompt(0, 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.eng.Step(ctx, engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, head, s.tail(0, 0))}}}},
		func(engine.Output) { s.Error("a pass ran") })
	if !errors.Is(err, context.Canceled) {
		s.Errorf("%v, want %v", err, context.Canceled)
	}
	s.goOn("after a cancelled step", 0, 0, 0, true)
}

// fill reads n tokens of prompts, over and over, into a slot from a position on.
func (s *suite) fill(slot, pos, n int) error {
	for n > 0 {
		c := min(n, s.l.PassTokens, head)
		_, err := s.run(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill,
			Rows: []engine.Row{{Slot: int32(slot), Pos: int32(pos), Tokens: s.head(slot % 2)[:c]}}}}})
		if err != nil {
			return err
		}
		pos, n = pos+c, n-c
	}
	return nil
}

// fullSlot: the last token fits, one more is refused, an idle row still has a place.
func (s *suite) fullSlot() {
	s.prompt(0, 0)
	s.prompt(1, 1)
	if err := s.fill(0, head, s.l.SlotTokens-head-1); err != nil {
		s.Fatal(err)
	}
	s.feed(0, s.l.SlotTokens-1, s.tail(0, 0))
	for range 2 {
		_, err := s.run(engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, s.l.SlotTokens, s.tail(0, 0))}}}})
		if !errors.Is(err, engine.ErrPlan) {
			s.Fatalf("one token more than a slot holds: %v, want %v", err, engine.ErrPlan)
		}
	}
	if s.l.Trims {
		s.pass(idle(0, s.l.SlotTokens, 1), sampling(1, head, s.tail(1, 0)))
		s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: head})
		s.goOn("a slot that was full", 0, 0, 0, true)
		s.goOn("beside a full slot", 1, 1, 1, false)
	}
}

// fullPool: when the pool is full a pass fails with ErrNoRoom and nothing has
// changed; a fork, which shares cells, needs no room.
func (s *suite) fullPool() {
	if s.l.PoolTokens >= s.l.Slots*s.l.SlotTokens {
		s.Skip("the pool is as large as all slots")
	}
	s.prompt(0, 0)
	s.open(1, greedy)
	used, slot := head, 2
	for ; slot < s.l.Slots && used+s.l.SlotTokens+tail <= s.l.PoolTokens; slot++ {
		s.open(slot, greedy)
		if err := s.fill(slot, 0, s.l.SlotTokens); err != nil {
			s.Fatal(err)
		}
		used += s.l.SlotTokens
	}
	if slot == s.l.Slots {
		s.Skip("there are too few slots to fill the pool")
	}
	s.open(slot, greedy)
	left := s.l.PoolTokens - used
	if left > s.l.SlotTokens {
		s.Fatalf("%d tokens are left for slot %d", left, slot)
	}
	if err := s.fill(slot, 0, left); err != nil {
		s.Fatal(err)
	}
	// In this order: a refused pass leaves the edits before it done.
	for _, full := range []struct {
		what string
		plan engine.Plan
	}{
		{"a pass", engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, head, s.tail(0, 0))}}}}},
		{"an idle row", engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{idle(1, 0, 1)}}}}},
		{"a fork's row", engine.Plan{Edits: []engine.Edit{{Kind: engine.EditFork, Slot: 0, To: 1, Len: head}},
			Passes: []engine.Pass{{Rows: []engine.Row{sampling(1, head, s.tail(0, 0))}}}}},
	} {
		if _, err := s.run(full.plan); !errors.Is(err, engine.ErrNoRoom) {
			s.Errorf("%s in a full pool: %v, want %v", full.what, err, engine.ErrNoRoom)
		}
	}
	s.edit(engine.Edit{Kind: engine.EditTrim, Slot: 1})
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: int32(slot)})
	s.goOn("after the pool was full", 0, 0, 0, false)
}
