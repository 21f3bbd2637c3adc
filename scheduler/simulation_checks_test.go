package scheduler

import (
	"errors"
	"slices"

	"llamero/engine"
)

// sights are what the simulation of many seeds must have met, each often.
var sights = []string{
	"a beginning restored from pages", "a fork", "a move", "a page evicted", "a preemption", "prompt scores",
	"a step failed", "the engine lost", "a plan that never reached the engine", "a failure amid edits", "a page torn",
	"a failure between passes", "a failure after all", "the engine away",
	"a step of a trial", "a killer failed alone", "a killer by its copies failed alone", "an innocent failed", "a broken engine ends everybody", "given up",
	"cancelled while it waited", "cancelled while it ran", "cancelled while it was looked for", "expired", "refused by a full queue",
	"all pages found in the remote tier", "some pages found in the remote tier", "no pages found in the remote tier",
	"a spoilt page refused", "an answer for a request that had gone", "a request that was complete",
}

// plan is told of what the engine is to do.
func (s *simulation) plan(p engine.Plan) {
	s.late()
	s.trace.plan(&p)
	for i := range p.Edits {
		switch p.Edits[i].Kind {
		case engine.EditRestore:
			s.seen["a beginning restored from pages"]++
		case engine.EditFork:
			s.seen["a fork"]++
		}
	}
	if len(s.w.s.trial) > 0 {
		s.seen["a step of a trial"]++
	}
}

// output is told of a pass before the scheduler is.
func (s *simulation) output(p *engine.Plan, out *engine.Output) {
	s.trace.numbers("  pass", int64(out.Pass), out.Nanos, int64(s.w.now))
	s.trace.text = append(s.trace.text, '\n')
	if out.Pass < 0 {
		return
	}
	s.barren = 0
	for i, q := range s.w.s.rows[out.Pass] {
		if q == nil {
			continue
		}
		row, c := &p.Passes[out.Pass].Rows[i], &s.lives[q.req.ID].choices[q.choice]
		end := int(row.Pos) + len(row.Tokens)
		c.high = max(c.high, end)
		if end >= c.mark {
			c.strikes, c.mark = 0, 0
		}
	}
}

// failed is told of a step that did, before the scheduler is.
func (s *simulation) failed(p engine.Plan, err error) {
	s.trace.line("  failed: %v", err)
	s.seen["a step failed"]++
	editing, passing := s.w.s.applied == 0, true
	var lost *engine.LostError
	if errors.As(err, &lost) {
		s.seen["the engine lost"]++
		if !lost.Begun {
			s.seen["a plan that never reached the engine"]++
			return
		}
		editing = editing && !lost.Edited
		passing = !editing
	}
	s.barren++
	s.blame(&p, editing, passing)
}

// blame strikes those who were in what failed: the edits, or the pass that ran.
func (s *simulation) blame(p *engine.Plan, editing, passing bool) {
	sch := s.w.s
	s.struck = nil
	strike := func(q *sequence, mark int) {
		if q == nil {
			return
		}
		c := &s.lives[q.req.ID].choices[q.choice]
		if c.mark = max(c.mark, mark); !slices.Contains(s.struck, q) {
			s.struck = append(s.struck, q)
			c.strikes++
		}
	}
	if passing && sch.applied < len(sch.rows) {
		for i, q := range sch.rows[sch.applied] {
			row := &p.Passes[sch.applied].Rows[i]
			strike(q, int(row.Pos)+len(row.Tokens))
		}
	}
	at := func(slot int32) {
		if q := sch.slots[slot]; q != nil {
			strike(q, q.computed+1)
		}
	}
	if editing {
		for _, e := range p.Edits {
			if e.Kind != engine.EditDrop {
				at(e.Slot)
			}
			if e.Kind == engine.EditMove || e.Kind == engine.EditFork {
				at(e.To)
			}
		}
	}
}

// events are checked as they come; take has seen to it that nothing follows an end.
func (s *simulation) events(events []Event) {
	for i := range events {
		e := &events[i]
		s.trace.event(e)
		l := s.lives[e.ID]
		if l == nil || e.Choice < 0 || e.Choice >= len(l.choices) {
			s.w.t.Fatalf("an event of request %d, choice %d, which nobody asked for", e.ID, e.Choice)
		}
		c := &l.choices[e.Choice]
		switch e.Kind {
		case EventAdmitted:
			if c.began {
				s.w.t.Fatalf("request %d, choice %d begins twice", e.ID, e.Choice)
			}
			if most := s.sharable(l); e.Cached > most {
				s.w.t.Fatalf("request %d begins with %d tokens; it has %d in common with what may be shared with it", e.ID, e.Cached, most)
			}
			c.began = true
		case EventTokens:
			if !c.began {
				s.w.t.Fatalf("request %d, choice %d has tokens before it begins", e.ID, e.Choice)
			}
		case EventDone:
			s.ended(l, c, e)
		}
	}
}

// sharable is how many tokens of a request's beginning others can have computed whose
// KV it may see.
func (s *simulation) sharable(l *life) int {
	most := 0
	common := func(text []engine.Token) {
		n := 0
		for n < min(len(text), len(l.Prompt)-1) && text[n] == l.Prompt[n] {
			n++
		}
		most = max(most, n)
	}
	if slices.ContainsFunc(l.choices, func(c choiceLife) bool { return c.began }) {
		common(l.Prompt) // another choice
	}
	if !l.Paged {
		return most
	}
	for _, o := range s.order {
		if o == l || !o.Paged || o.Root != l.Root {
			continue
		}
		common(o.Prompt)
		for c := range o.choices {
			common(join(o.Prompt, s.w.got[o.ID][c]))
		}
	}
	for _, o := range s.warmed {
		if o.root == l.Root {
			common(o.text)
		}
	}
	return most
}

// ended looks at why an answer did.
func (s *simulation) ended(l *life, c *choiceLife, e *Event) {
	t := s.w.t
	switch e.Finish {
	case FinishStop, FinishLength:
		if l.ask.Deadly > 0 && c.high >= l.ask.Deadly {
			t.Fatalf("request %d has computed %d tokens, and kills at %d", e.ID, c.high, l.ask.Deadly)
		}
		s.seen["a request that was complete"]++
		if l.PromptScores && e.Choice == 0 {
			s.seen["prompt scores"]++
		}
	case FinishCancel:
		if !c.cancelled {
			t.Fatalf("request %d, choice %d is cancelled by nobody", e.ID, e.Choice)
		}
	case FinishExpired:
		if l.Deadline == 0 || e.At < l.Deadline {
			t.Fatalf("request %d expires at %d, before its time, %d", e.ID, e.At, l.Deadline)
		}
		if slices.ContainsFunc(l.choices, func(c choiceLife) bool { return c.began }) {
			t.Fatalf("request %d expires after it began", e.ID)
		}
		s.seen["expired"]++
	case FinishError:
		s.condemned(l, c, e)
	default:
		t.Fatalf("request %d, choice %d ends for no reason", e.ID, e.Choice)
	}
}

// condemned looks at why an answer failed: only what kills the engine fails for that,
// unless accidents came to it, one after the other, before it could get on.
func (s *simulation) condemned(l *life, c *choiceLife, e *Event) {
	t := s.w.t
	var poison *PoisonError
	switch {
	case e.Err == nil:
		t.Fatalf("request %d fails without an error", e.ID)
	case s.given != nil:
		if !errors.Is(e.Err, s.given) {
			t.Fatalf("request %d fails with %v when all are given up", e.ID, e.Err)
		}
		s.seen["given up"]++
	case errors.As(e.Err, &poison):
		switch {
		case len(s.struck) != 1 || s.struck[0].req.ID != e.ID || s.struck[0].choice != e.Choice:
			t.Fatalf("request %d, choice %d is to blame, and was not alone: %v", e.ID, e.Choice, e.Err)
		case l.ask.Deadly > 0:
			s.seen["a killer failed alone"]++
		case l.ask.Fragile:
			s.seen["a killer by its copies failed alone"]++
		case s.mishaps == 0:
			t.Fatalf("request %d, which is harmless, fails: %v", e.ID, e.Err)
		case c.strikes < 3:
			t.Fatalf("request %d, choice %d, which is harmless, fails after %d failures: %v", e.ID, e.Choice, c.strikes, e.Err)
		default:
			s.seen["an innocent failed"]++
		}
	case s.barren <= maxBarren:
		t.Fatalf("request %d fails after %d failures in a row: %v", e.ID, s.barren, e.Err)
	default:
		s.seen["a broken engine ends everybody"]++
	}
}

// late fails for requests that should have expired by now.
func (s *simulation) late() {
	for _, q := range s.w.s.waiting {
		l := s.lives[q.req.ID]
		if l != nil && l.Deadline > 0 && s.w.now >= l.Deadline && !q.req.started() {
			s.w.t.Fatalf("request %d waits for its slot, and should have expired at %d", l.ID, l.Deadline)
		}
	}
}
