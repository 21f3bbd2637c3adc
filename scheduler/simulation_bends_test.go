package scheduler

import (
	"errors"
	"slices"
	"testing"

	"llamero/engine"
)

// bend is a deliberate fault in what the simulation runs, which it must find.
type bend func(*simulation)

// hooks are where a simulation can be bent beside those of its world; nil, or false, is
// straight.
type hooks struct {
	request func(*Request)       // what the scheduler is told of one
	plan    func(*engine.Plan)   // what the engine is told
	output  func(*engine.Output) // what the engine says
	err     func(error) error    // how it says that a step failed
	turn    func()               // before each step
	deaf    bool                 // cancellations are not heard
	lost    bool                 // what the remote tier answers is lost
}

// editing bends those edits of plans that are of a kind.
func editing(kind engine.EditKind, change func(*engine.Edit)) bend {
	return func(s *simulation) {
		s.bend.plan = func(p *engine.Plan) {
			for i := range p.Edits {
				if p.Edits[i].Kind == kind {
					change(&p.Edits[i])
				}
			}
		}
	}
}

// relaying bends what becomes of events of a kind: how many arrive for each.
func relaying(kind EventKind, copies int) bend {
	return func(s *simulation) {
		s.w.relay = func(events []Event) (out []Event) {
			for _, e := range events {
				n := 1
				if e.Kind == kind {
					n = copies
				}
				for range n {
					out = append(out, e)
				}
			}
			return out
		}
	}
}

// bends are faults in the engine, in the tiers, around the scheduler, and within it.
var bends = []struct {
	name string
	bend bend
	slow bool // too slow to be cut down here
}{
	{name: "a page is not saved, and stays as it was", bend: editing(engine.EditSave, func(e *engine.Edit) { e.Pages[len(e.Pages)-1] = -1 })},
	{name: "pages are saved in each other's places", bend: editing(engine.EditSave, func(e *engine.Edit) { slices.Reverse(e.Pages) })},
	{name: "pages are restored in another order", bend: editing(engine.EditRestore, func(e *engine.Edit) { slices.Reverse(e.Pages) })},
	{name: "a fork is a token short", bend: editing(engine.EditFork, func(e *engine.Edit) { e.Len = max(1, e.Len-1) })},
	{name: "a slot is not dropped", bend: func(s *simulation) {
		s.bend.plan = func(p *engine.Plan) {
			p.Edits = slices.DeleteFunc(p.Edits, func(e engine.Edit) bool { return e.Kind == engine.EditDrop })
		}
	}},
	{name: "an idle row is not rolled back", bend: func(s *simulation) {
		s.bend.plan = func(p *engine.Plan) {
			for i := range p.Passes {
				for j := range p.Passes[i].Rows {
					p.Passes[i].Rows[j].Idle = false
				}
			}
		}
	}},
	{name: "rows get each other's tokens", bend: func(s *simulation) {
		s.bend.output = func(out *engine.Output) {
			if n := len(out.Rows); n > 1 {
				out.Rows[0].Sampled, out.Rows[n-1].Sampled = out.Rows[n-1].Sampled, out.Rows[0].Sampled
			}
		}
	}},
	{name: "the engine dies and nobody notices", bend: func(s *simulation) {
		s.bend.turn = func() {
			if s.w.turn == 6 {
				s.w.f.Restart()
			}
		}
	}},
	{name: "a dying engine spoils pages that were whole", bend: func(s *simulation) {
		s.bend.err = func(err error) error {
			for i := range s.w.f.Memory {
				s.w.f.Memory[i] ^= 1
			}
			return err
		}
	}},
	{name: "an engine that was killed says that it had not begun", slow: true, bend: func(s *simulation) {
		s.bend.err = func(error) error { return &engine.LostError{Reason: "killed"} }
	}},
	{name: "a tier hands out what is not sound", bend: func(s *simulation) { s.w.credulous = true }},
	{name: "a tier's answers are lost", bend: func(s *simulation) { s.bend.lost = true }},
	{name: "a page is let go twice", bend: func(s *simulation) {
		s.w.release = func(page int32) {
			s.w.s.cfg.Pages.Unpin(page)
			s.w.s.cfg.Pages.Unpin(page)
		}
	}},
	{name: "a page is never let go", bend: func(s *simulation) { s.w.release = func(int32) {} }},
	{name: "a page is let go before it has been read", bend: func(s *simulation) {
		early := 0 // of those under way
		s.w.release = func(page int32) {
			if early == 0 {
				s.w.s.cfg.Pages.Unpin(page)
			} else {
				early--
			}
		}
		s.bend.turn = func() {
			for _, x := range s.w.writes[early:] {
				s.w.s.cfg.Pages.Unpin(x.page)
				early++
			}
		}
	}},
	{name: "tokens are lost", bend: relaying(EventTokens, 0)},
	{name: "tokens come twice", bend: relaying(EventTokens, 2)},
	{name: "an admission is lost", bend: relaying(EventAdmitted, 0)},
	{name: "an end is lost", bend: relaying(EventDone, 0)},
	{name: "an end comes twice", bend: relaying(EventDone, 2)},
	{name: "cancellations are lost", bend: func(s *simulation) { s.bend.deaf = true }},
	{name: "deadlines are lost", bend: func(s *simulation) { s.bend.request = func(r *Request) { r.Deadline = 0 } }},
	{name: "tenants share", bend: func(s *simulation) { s.bend.request = func(r *Request) { r.Root = tenantRoot(0) } }},
	{name: "pages that were not saved stay known", bend: func(s *simulation) {
		failed := s.w.onFail
		s.w.onFail = func(p engine.Plan, err error) {
			failed(p, err)
			s.w.s.cfg.Pages.Landed()
		}
	}},
	{name: "a slot is given on that nobody has emptied", bend: func(s *simulation) { s.bend.turn = func() { clear(s.w.s.dirty) } }},
	{name: "whoever is there when a step fails is to blame", bend: func(s *simulation) {
		failed := s.w.onFail
		s.w.onFail = func(p engine.Plan, err error) {
			failed(p, err)
			for _, q := range s.w.s.slots {
				if q != nil {
					q.peak, q.strikes, s.w.s.trial, s.w.s.rest = 1, leastStrikes, []*sequence{q}, nil
				}
			}
		}
	}},
	{name: "a queue's count goes astray", bend: func(s *simulation) {
		s.bend.turn = func() {
			if s.w.turn == 4 {
				s.w.s.queued++
			}
		}
	}},
	{name: "an order that is not the seed's", bend: func() bend {
		runs := 0
		return func(s *simulation) {
			runs++
			s.w.now = Tick(runs)
		}
	}()},
}

// TestBends: the simulation finds what is bent, and cuts most of it down to a few acts.
func TestBends(t *testing.T) {
	const seeds, most = 400, 8
	for _, b := range bends {
		t.Run(b.name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				s := newScenario(seed)
				found := twice(s, b.bend).failure
				if found == nil {
					continue
				}
				if b.slow {
					t.Logf("seed %d: %s", seed, found.kind)
					return
				}
				least := shrink(s, like(found, b.bend))
				t.Logf("seed %d, %d acts, of which %d are needed: %s\n%s", seed, len(s.Acts), len(least.Acts), found.kind, least)
				if len(least.Acts) > most {
					t.Errorf("%d acts are left", len(least.Acts))
				}
				return
			}
			t.Errorf("%d seeds do not show it", seeds)
		})
	}
}

// TestRecorder: what goes wrong within a simulation is its failure, and never the end of
// the test.
func TestRecorder(t *testing.T) {
	s := newScenario(1)
	for kind, b := range map[string]bend{
		"request # has gone":     func(s *simulation) { s.bend.turn = func() { s.w.t.Fatal(errors.New("request 12 has gone")) } },
		"# pages":                func(s *simulation) { s.bend.turn = func() { s.w.t.Errorf("%d pages\nof all", 3) } },
		"panic: page # is there": func(s *simulation) { s.bend.turn = func() { panic("page 7 is there") } },
	} {
		if got := simulate(s, b).failure; got == nil || got.kind != kind {
			t.Errorf("%+v, want %q", got, kind)
		}
	}
}
