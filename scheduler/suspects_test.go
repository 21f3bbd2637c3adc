package scheduler

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// deadly makes a world's engine die whenever a pass, or an edit, has to do with a
// request that kills it.
type deadly struct {
	*world
	plan   engine.Plan
	deaths int
	errs   map[ID]error
}

// newDeadly returns a world in which the engine dies on what kills names.
func newDeadly(t *testing.T, cfg Config, kills func(p *engine.Plan, pass int) bool) *deadly {
	d := &deadly{world: newWorld(t, cfg), errs: map[ID]error{}}
	d.onPlan = func(p engine.Plan) { d.plan = p }
	d.onEvents = func(events []Event) {
		for _, e := range events {
			if e.Kind == EventDone && e.Err != nil {
				d.errs[e.ID] = e.Err
			}
		}
	}
	d.f.Fail = func(_ uint64, pass int) error {
		if kills(&d.plan, pass) {
			d.deaths++
			return &engine.LostError{Reason: "killed", Begun: true, Edited: pass >= 0 || len(d.plan.Edits) == 0}
		}
		return nil
	}
	return d
}

// token is in the prompts of those requests only that are to kill the engine.
const deadlyToken engine.Token = 999

func good(id ID, n, answer int) Request {
	p := prompt(uint64(id), n)
	for i := range p {
		p[i] %= deadlyToken
	}
	return Request{ID: id, Prompt: p, MaxTokens: answer}
}

func bad(id ID, n, at int) Request {
	r := good(id, n, 8)
	r.Prompt[at] = deadlyToken
	return r
}

func computes(p *engine.Plan, pass int, token engine.Token) bool {
	return pass >= 0 && slices.ContainsFunc(p.Passes[pass].Rows, func(r engine.Row) bool { return slices.Contains(r.Tokens, token) })
}

// expectAllBut compares all answers but those of requests that should have failed.
func (d *deadly) expectAllBut(requests []Request, failed ...ID) {
	d.t.Helper()
	for _, r := range requests {
		var poison *PoisonError
		switch {
		case !slices.Contains(failed, r.ID):
			if d.done[r.ID][0] != FinishLength {
				d.t.Errorf("request %d ended with %q: %v", r.ID, d.done[r.ID][0], d.errs[r.ID])
			}
			d.expect(r)
		case d.done[r.ID][0] != FinishError || !errors.As(d.errs[r.ID], &poison):
			d.t.Errorf("request %d, which kills, ended with %q: %v", r.ID, d.done[r.ID][0], d.errs[r.ID])
		}
	}
}

// TestPoison: among n requests one that kills the engine fails alone, whenever it
// came and whatever it does, after few deaths.
func TestPoison(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		for _, n := range []int{1, 2, 3, 8, 32} {
			for _, place := range []int{0, n / 2, n - 1} {
				for _, late := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %d of %d, late %v", layout, place+1, n, late), func(t *testing.T) {
						l := enginetest.DefaultLimits(layout)
						l.Slots = 32
						l.PoolTokens, l.PassOutputs = l.Slots*l.SlotTokens, 64
						var killer Request
						kills := func(p *engine.Plan, pass int) bool {
							if !late {
								return computes(p, pass, deadlyToken)
							}
							// At its fifth token, in a pass with everybody's.
							return pass >= 0 && slices.ContainsFunc(p.Passes[pass].Rows, func(r engine.Row) bool {
								return !r.Idle && int(r.Pos)+len(r.Tokens) == len(killer.Prompt)+4 // nobody else gets there
							})
						}
						d := newDeadly(t, Config{Limits: l}, kills)
						var requests []Request
						for i := range n {
							r := good(ID(i+1), 20+i%7, 12)
							if i == place {
								if r = bad(ID(i+1), 61, 40); late {
									r.Prompt[40] = 1
								}
								killer = r
							}
							requests = append(requests, r)
							d.add(r)
						}
						d.run()
						d.expectAllBut(requests, killer.ID)
						if most := 3 + 2*bits.Len(uint(n)); d.deaths > most {
							t.Errorf("%d deaths, at most %d", d.deaths, most)
						}
						t.Logf("%d deaths", d.deaths)
					})
				}
			}
		}
	}
}

// TestWrongBlame: a request that kills the engine fails alone even if the engine's death
// is always seen in another pass than its own, before others have come to their ends.
func TestWrongBlame(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		t.Run(layout.String(), func(t *testing.T) {
			l := enginetest.DefaultLimits(layout)
			l.SlotTokens = 400
			l.PoolTokens = l.Slots * l.SlotTokens
			d := newDeadly(t, Config{Limits: l}, func(p *engine.Plan, pass int) bool {
				if pass != 0 {
					return false
				}
				for i := range p.Passes {
					if computes(p, i, deadlyToken) {
						return true
					}
				}
				return false
			})
			var requests []Request
			for i := range l.Slots - 1 {
				requests = append(requests, good(ID(i+1), 20, 300))
				d.add(requests[i])
			}
			d.until("all decode", func() bool { return d.s.Stats().Decoding == len(requests) })
			killer := bad(100, 40, 30)
			d.add(killer)
			d.until("it has failed", func() bool { return d.done[killer.ID][0] != FinishNone })
			for _, r := range requests {
				if d.done[r.ID][0] != FinishNone {
					t.Errorf("request %d had ended before", r.ID)
				}
			}
			d.run()
			d.expectAllBut(append(requests, killer), killer.ID)
			t.Logf("%d deaths", d.deaths)
			if most := maxStalled + 2*leastStrikes + 2*bits.Len(uint(l.Slots)); d.deaths > most {
				t.Errorf("%d deaths; at most %d", d.deaths, most)
			}
		})
	}
}

// TestTwoPoisons: two that kill fail, the others do not.
func TestTwoPoisons(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		d := newDeadly(t, Config{Limits: enginetest.DefaultLimits(engine.Split)}, func(p *engine.Plan, pass int) bool { return computes(p, pass, deadlyToken) })
		killers := []ID{ID(1 + r.IntN(8)), ID(9 + r.IntN(8))}
		var requests []Request
		for i := range ID(16) {
			q := good(i+1, 20, 6)
			if slices.Contains(killers, q.ID) {
				q = bad(q.ID, 20+r.IntN(150), r.IntN(20))
			}
			requests = append(requests, q)
			d.add(q)
			for range r.IntN(3) {
				d.step()
			}
		}
		d.run()
		d.expectAllBut(requests, killers...)
	}
}

// TestDeadlyEdit: what kills is not a pass but the copying of pages into a slot.
func TestDeadlyEdit(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Split)
	shared := good(100, 64, 1).Prompt
	armed := false
	d := newDeadly(t, Config{Limits: l}, func(p *engine.Plan, pass int) bool {
		return armed && pass == -1 && slices.ContainsFunc(p.Edits, func(e engine.Edit) bool { return e.Kind == engine.EditRestore })
	})
	first := Request{ID: 1, Prompt: shared, MaxTokens: 2, Paged: true}
	d.add(first)
	d.run()
	if d.f.Saved == 0 {
		t.Fatal("nothing has been published")
	}
	armed = true
	requests := []Request{first}
	for i := range ID(5) {
		r := good(i+2, 70, 6)
		if i == 2 {
			r.Prompt, r.Paged = append(slices.Clone(shared), r.Prompt[:20]...), true
		}
		requests = append(requests, r)
		d.add(r)
	}
	d.run()
	d.expectAllBut(requests, 4)
}

// TestDeadlyCopy: what kills is the copying from slot to slot. Each is fine alone, so
// nobody is to blame; they end without being copied, after few deaths.
func TestDeadlyCopy(t *testing.T) {
	system := good(100, 64, 1).Prompt
	for name, requests := range map[string][]Request{
		"siblings": {{ID: 1, Prompt: system, MaxTokens: 30, Choices: 3}},
		"followers": {
			{ID: 1, Prompt: join(system, good(1, 9, 1).Prompt), MaxTokens: 30, Paged: true},
			{ID: 2, Prompt: join(system, good(2, 9, 1).Prompt), MaxTokens: 30, Paged: true},
			{ID: 3, Prompt: join(system, good(3, 9, 1).Prompt), MaxTokens: 30, Paged: true},
		},
	} {
		for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
			t.Run(name+", "+layout.String(), func(t *testing.T) {
				l := enginetest.DefaultLimits(layout)
				l.PassTokens = 32 // a prompt takes several steps: to have begun is not to have ended
				copies := 0
				d := newDeadly(t, Config{Limits: l, Follow: 16, TargetITL: 20e6}, func(p *engine.Plan, pass int) bool {
					dies := pass == -1 && slices.ContainsFunc(p.Edits, func(e engine.Edit) bool { return e.Kind == engine.EditFork })
					if dies {
						copies++
					}
					return dies
				})
				for _, r := range requests {
					d.add(r)
				}
				d.run()
				for _, r := range requests {
					d.expect(r)
					for c, finish := range d.done[r.ID] {
						if finish != FinishLength {
							t.Errorf("request %d, choice %d ended with %q: %v", r.ID, c, finish, d.errs[r.ID])
						}
					}
				}
				if copies == 0 || copies > 4 {
					t.Errorf("%d deaths", copies)
				}
			})
		}
	}
}

// TestApart: whoever has met two failures while copied is not moved, and others are.
func TestApart(t *testing.T) {
	moves := func(upset int) int {
		w := newWorld(t, Config{Limits: enginetest.DefaultLimits(engine.Split)})
		var requests []Request
		for i := range ID(8) {
			r := good(i+1, 9, 3)
			if i%3 > 0 {
				r.MaxTokens = 90 // between these holes open
			}
			requests = append(requests, r)
			w.add(r)
		}
		for _, req := range w.s.requests {
			req.sequences[0].upset = upset
		}
		w.run()
		for _, r := range requests {
			w.expect(r)
		}
		return w.f.Moves
	}
	if before, apart := moves(1), moves(2); before == 0 || apart > 0 {
		t.Errorf("%d moves, and %d of those who are to be left alone", before, apart)
	}
}

// TestAccidents: deaths that come from outside, one whenever everybody has moved on,
// end nobody.
func TestAccidents(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		l := enginetest.DefaultLimits(engine.Split)
		strike := false
		d := newDeadly(t, Config{Limits: l}, func(_ *engine.Plan, pass int) bool {
			now := strike && r.IntN(3) == 0
			strike = strike && !now
			return now
		})
		var requests []Request
		for i := range ID(8) {
			q := good(i+1, 10+r.IntN(40), 150)
			requests = append(requests, q)
			d.add(q)
		}
		for range 20 {
			for strike && d.step() {
			}
			before := map[ID]int{}
			for id, got := range d.got {
				before[id] = len(got[0])
			}
			moved := func() bool {
				for id, got := range d.got {
					if len(got[0]) == before[id] && d.done[id][0] == FinishNone {
						return false
					}
				}
				return true
			}
			for !moved() && d.step() {
			}
			strike = true
			for range r.IntN(5) {
				d.step()
			}
		}
		strike = false
		d.run()
		if d.deaths < 10 {
			t.Errorf("only %d deaths: this test shows nothing", d.deaths)
		}
		d.expectAllBut(requests)
	}
}

// TestNotBegun: an engine that died before it had the plan accuses nobody.
func TestNotBegun(t *testing.T) {
	w := newWorld(t, Config{Limits: enginetest.DefaultLimits(engine.Split)})
	r := good(1, 20, 10)
	w.add(r)
	left := 40
	w.f.Fail = func(uint64, int) error {
		if left--; left > 0 {
			return &engine.LostError{Reason: "gone"}
		}
		return nil
	}
	w.run()
	w.expect(r)
	if w.done[1][0] != FinishLength {
		t.Errorf("it ended with %q", w.done[1][0])
	}
}

// TestBrokenEngine: an engine that dies whatever it runs ends everybody, in the end.
func TestBrokenEngine(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Split)
	d := newDeadly(t, Config{Limits: l}, func(_ *engine.Plan, pass int) bool { return pass >= 0 })
	for i := range ID(30) {
		d.add(good(i+1, 20, 10))
	}
	d.run()
	for id, fs := range d.done {
		if fs[0] != FinishError {
			t.Errorf("request %d ended with %q", id, fs[0])
		}
	}
	if most := maxBarren + 30; d.deaths > most {
		t.Errorf("%d deaths, at most %d", d.deaths, most)
	}
}

// TestSuspectLeaves: a trial ends when those who stand it go.
func TestSuspectLeaves(t *testing.T) {
	d := newDeadly(t, Config{Limits: enginetest.DefaultLimits(engine.Split)}, func(p *engine.Plan, pass int) bool { return computes(p, pass, deadlyToken) })
	killer := bad(4, 30, 20)
	requests := []Request{good(1, 20, 30), good(2, 20, 30), good(3, 20, 30), killer, good(5, 20, 30)}
	for _, r := range requests {
		d.add(r)
	}
	for len(d.s.trial) == 0 {
		d.step()
	}
	if d.deaths < 2 {
		t.Errorf("a trial after %d deaths", d.deaths)
	}
	d.take(d.s.Cancel(killer.ID, d.now))
	d.check()
	d.run()
	if d.done[killer.ID][0] != FinishCancel {
		t.Errorf("it ended with %q", d.done[killer.ID][0])
	}
	d.expectAllBut(append(requests[:3:3], requests[4]))
}

// TestAbandon ends everybody, wherever they are.
func TestAbandon(t *testing.T) {
	w := newWorld(t, Config{Limits: enginetest.DefaultLimits(engine.Split)})
	for i := range ID(20) {
		w.add(good(i+1, 20, 30))
	}
	for range 5 {
		w.step()
	}
	broken := errors.New("broken")
	w.take(w.s.Abandon(broken, w.now))
	w.check()
	for id, fs := range w.done {
		if fs[0] != FinishError {
			t.Errorf("request %d ended with %q", id, fs[0])
		}
	}
	w.run()
}
