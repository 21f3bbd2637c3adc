package scheduler

import (
	"errors"
	"slices"

	"llamero/engine"
)

// strike is where the step that runs is to fail.
type strike struct {
	armed   []fault      // that wait for a step they can happen in
	running *engine.Plan // the step
	fault   fault        // that happens in it, if any
	edit    int          // the edit at which it fails; -1: none
	pass    int          // the pass before which it does, -1 being the edits; -2: none
	after   bool         // it does when all is done
}

var errStep = errors.New("the step failed")

// aim chooses which of the faults happens in a step, and where.
func (s *strike) aim(p *engine.Plan) {
	s.running, s.edit, s.pass, s.after = p, -1, -2, false
	for i, f := range s.armed {
		if s.place(f, p) {
			s.fault = f
			s.armed = slices.Delete(s.armed, i, i+1)
			return
		}
	}
}

// place puts a fault into a plan, if it has a place for it.
func (s *strike) place(f fault, p *engine.Plan) bool {
	var saves []int
	for i := range p.Edits {
		if p.Edits[i].Kind == engine.EditSave {
			saves = append(saves, i)
		}
	}
	switch {
	case f.Where == notBegun || f.Where == beforeEdits:
		s.pass = -1
	case f.Where == afterAll:
		s.after = true
	case f.Where == amidEdits && len(p.Edits) > 0:
		s.edit = f.N % len(p.Edits)
	case f.Where == amidSave && len(saves) > 0:
		s.edit = saves[f.N%len(saves)]
	case f.Where == beforePass && len(p.Passes) > 0:
		s.pass = 0
	case f.Where == betweenPasses && len(p.Passes) > 1:
		s.pass = 1 + f.N%(len(p.Passes)-1)
	default:
		return false
	}
	return true
}

// hit is the error of the turn's fault.
func (s *simulation) hit(edited bool) error {
	s.mishaps++
	f := s.fault
	if !f.Lost {
		return errStep
	}
	s.away = f.Away
	return &engine.LostError{Reason: "killed", Begun: f.Where != notBegun, Edited: edited && !f.Mute}
}

// execute runs a plan on the engine, which may fail.
func (s *simulation) execute(p engine.Plan, emit func(engine.Output)) error {
	if s.bend.plan != nil {
		p = clonePlan(p)
		s.bend.plan(&p)
	}
	s.aim(&p)
	err := s.w.compute(p, func(out engine.Output) {
		if s.Machine.unsteady {
			s.jitter(&out)
		}
		if s.bend.output != nil {
			s.bend.output(&out)
		}
		emit(out)
	})
	if err == nil && s.after {
		s.seen["a failure after all"]++
		err = s.hit(true)
	}
	if err != nil && s.bend.err != nil {
		err = s.bend.err(err)
	}
	return err
}

// jitter makes a pass take half or twice its time, and now and then far longer.
func (s *simulation) jitter(out *engine.Output) {
	out.Nanos = out.Nanos/2 + s.clock.Int64N(2*out.Nanos+1)
	if s.clock.IntN(60) == 0 {
		out.Nanos *= 20
	}
	if out.Pass <= 0 {
		out.EditNanos = s.clock.Int64N(3e6)
	}
}

// failEdit is the engine's FailEdit.
func (s *simulation) failEdit(_ uint64, edit int) error {
	if edit != s.edit {
		return s.copied(&s.running.Edits[edit])
	}
	s.seen["a failure amid edits"]++
	if s.running.Edits[edit].Kind == engine.EditSave {
		s.seen["a page torn"]++
	}
	return s.hit(false)
}

// copied kills the engine if an edit copies KV into a slot whose request cannot bear it.
func (s *simulation) copied(e *engine.Edit) error {
	slot := e.Slot
	switch e.Kind {
	case engine.EditRestore:
	case engine.EditFork:
		slot = e.To
	default:
		return nil
	}
	if q := s.w.s.slots[slot]; q != nil && s.lives[q.req.ID].ask.Fragile {
		return &engine.LostError{Reason: "a copy killed it", Begun: true}
	}
	return nil
}

// failPass is the engine's Fail.
func (s *simulation) failPass(_ uint64, pass int) error {
	if pass == s.pass {
		if pass > 0 {
			s.seen["a failure between passes"]++
		}
		return s.hit(pass >= 0 || len(s.running.Edits) == 0)
	}
	if pass < 0 {
		return nil
	}
	for i, q := range s.w.s.rows[pass] {
		if q == nil {
			continue
		}
		row := &s.running.Passes[pass].Rows[i]
		if l := s.lives[q.req.ID]; l.ask.Deadly > 0 && int(row.Pos)+len(row.Tokens) >= l.ask.Deadly {
			return &engine.LostError{Reason: "a request killed it", Begun: true, Edited: true}
		}
	}
	return nil
}

// clonePlan copies what of a plan may be bent.
func clonePlan(p engine.Plan) engine.Plan {
	p.Edits = slices.Clone(p.Edits)
	for i := range p.Edits {
		p.Edits[i].Pages = slices.Clone(p.Edits[i].Pages)
	}
	p.Passes = slices.Clone(p.Passes)
	for i := range p.Passes {
		p.Passes[i].Rows = slices.Clone(p.Passes[i].Rows)
	}
	return p
}
