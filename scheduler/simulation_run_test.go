package scheduler

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"llamero/cache"
	"llamero/engine"
)

// simulation is a scenario under way.
type simulation struct {
	scenario
	w       *world
	lives   map[ID]*life
	order   []*life        // as they came
	asked   map[ID]Request // those that were refused too
	answers []answer       // of the remote tier, under way
	warmed  []warmed       // what others have put there
	away    int            // turns until the engine is back
	next    int            // act
	clock   *rand.Rand     // of an unsteady machine
	given   error          // what everybody is told who is given up; nil: nobody is
	trace   trace
	seen    map[string]int

	strike
	struck  []*sequence // that were in what failed last
	barren  int         // failed steps since a pass last ran
	mishaps int         // faults that came to pass

	bend hooks
}

// life is what is known of a request from outside.
type life struct {
	Request
	ask     ask
	choices []choiceLife
}

type choiceLife struct {
	began, cancelled bool
	strikes, mark    int // failed steps that it was in, until it has got beyond where they met it
	high             int // tokens that it has had computed
}

const (
	turnNanos = 3e6  // that pass where there is nothing to do
	mostTurns = 8000 // no scenario takes as long
)

func newSimulation(s scenario) *simulation {
	m := &s.Machine
	sim := &simulation{scenario: s, lives: map[ID]*life{}, asked: map[ID]Request{}, seen: map[string]int{},
		clock: rand.New(rand.NewPCG(s.Seed, 32))}
	w := newWorld(recorder{}, Config{Limits: m.limits(), TargetITL: m.target, Queue: m.queue, Follow: m.follow, Insure: m.insure, KeepSaved: m.remote, Guess: m.guess, DraftOnly: m.draftOnly})
	if !m.calibrated {
		w.s.costs = NewCosts(w.s.cfg.Limits)
	}
	if m.remote && m.pages > 0 {
		w.remote, w.spoiled = map[cache.Address][]byte{}, map[cache.Address]bool{}
	}
	w.writeLag, w.writeRoom = m.writeLag, m.writeRoom
	w.f.EOG, w.f.EOGEvery, w.f.Echo, w.f.Wrong = 7, m.eogEvery, m.echo, m.wrong
	w.f.Fail, w.f.FailEdit = sim.failPass, sim.failEdit
	w.onPlan = sim.plan
	w.onOutput = sim.output
	w.onEvents = sim.events
	w.onFail = sim.failed
	w.execute = sim.execute
	sim.w = w
	return sim
}

// all runs the scenario until nothing is left of it.
func (s *simulation) all() {
	for s.next < len(s.Acts) || s.live() || len(s.answers)+len(s.w.writes) > 0 || s.away > 0 {
		if s.w.turn == mostTurns {
			s.w.t.Fatalf("no end after %d turns", mostTurns)
		}
		s.one()
	}
	s.end()
}

// live reports whether requests have not ended.
func (s *simulation) live() bool {
	st := s.w.s.Stats()
	return st.Running+st.Waiting > 0
}

// one is one turn of the loop: what has come is taken, then a step runs.
func (s *simulation) one() {
	w := s.w
	for s.next < len(s.Acts) && s.Acts[s.next].Turn <= w.turn {
		s.do(&s.Acts[s.next])
		w.check()
		s.next++
	}
	s.arrivals()
	if s.bend.turn != nil {
		s.bend.turn()
	}
	if s.away > 0 {
		s.away--
		w.turn++
		w.now += turnNanos
		w.write()
		w.take(w.s.Expire(w.now))
		s.late()
		w.check()
		s.seen["the engine away"]++
	} else if !w.step() {
		s.late()
		if s.live() && len(s.answers) == 0 {
			w.t.Fatalf("there is nothing to do, and requests wait: %+v", w.s.Stats())
		}
		w.write()
		w.now += turnNanos
	}
}

func (s *simulation) do(a *act) {
	w := s.w
	switch a.Kind {
	case asks:
		s.ask(a.Ask)
	case cancels:
		l := s.lives[a.ID]
		if l == nil || a.N >= len(l.choices) {
			return
		}
		s.trace.line("turn %d: cancel %d %d", w.turn, a.ID, a.N)
		for c := range l.choices {
			if a.N == c || a.N == everyChoice {
				l.choices[c].cancelled = true
			}
		}
		s.gone(a.ID)
		switch {
		case s.bend.deaf:
		case a.N == everyChoice:
			w.take(w.s.Cancel(a.ID, w.now))
		default:
			w.take(w.s.CancelChoice(a.ID, a.N, w.now))
		}
		for c := range l.choices {
			if l.choices[c].cancelled && w.done[a.ID][c] == FinishNone {
				w.t.Fatalf("request %d, choice %d has been cancelled, and goes on", a.ID, c)
			}
		}
	case warms:
		s.warm(a.Text, a.N)
	case forgets:
		if len(w.shelf) > 0 {
			w.forget(w.shelf[a.N%len(w.shelf)])
		}
	case spoils:
		s.spoil(a)
	case fails:
		s.armed = append(s.armed, a.Fail)
	case waits:
		w.now += Tick(a.N) * 1e6
	case gives:
		s.trace.line("turn %d: give up", w.turn)
		s.given = &engine.LostError{Reason: "it does not come back"}
		w.take(w.s.Abandon(s.given, w.now))
		s.given = nil
		if s.live() {
			w.t.Fatalf("all requests are given up, and some go on: %+v", w.s.Stats())
		}
	}
}

// gone notes in which state a request is cancelled.
func (s *simulation) gone(id ID) {
	req := s.w.s.requests[id]
	if req == nil {
		return
	}
	switch q := req.sequences[0]; {
	case q.ended:
	case q.fetching:
		s.seen["cancelled while it was looked for"]++
	case q.slot == noSlot:
		s.seen["cancelled while it waited"]++
	default:
		s.seen["cancelled while it ran"]++
	}
}

// ask adds a request.
func (s *simulation) ask(k ask) {
	w := s.w
	r := Request{
		ID: k.ID, Tenant: fmt.Sprint("tenant ", k.Tenant), Priority: k.Priority, Prompt: s.prompt(k), MaxTokens: k.Answer,
		Choices: k.Choices, Stop: []engine.Token{7}, PromptScores: k.Scores, Paged: !k.Unpaged, Root: tenantRoot(k.Tenant),
	}
	if k.Sampled {
		r.Sampling = engine.Sampling{Temperature: 1, Seed: s.Seed + uint64(k.ID)}
	}
	if k.Patience > 0 {
		r.Deadline = w.now + Tick(k.Patience)*1e6
	}
	s.asked[k.ID] = r
	l := &life{Request: r, ask: k, choices: make([]choiceLife, k.Choices)}
	if s.bend.request != nil {
		s.bend.request(&r)
	}
	full := w.s.Stats().Queued >= s.Machine.queue
	err := w.submit(r)
	s.trace.line("turn %d: ask %d, %d tokens, at %d: %v", w.turn, k.ID, len(r.Prompt), w.now, err)
	switch {
	case errors.Is(err, ErrQueueFull) && full:
		s.seen["refused by a full queue"]++
		return
	case err != nil:
		w.t.Fatalf("request %d is refused: %v", k.ID, err)
	}
	s.lives[k.ID] = l
	s.order = append(s.order, l)
	w.look(k.ID)
	most := k.Most
	if most == 0 {
		most = math.MaxInt
	}
	for _, f := range w.fetches {
		s.answers = append(s.answers, answer{f, most, w.turn + k.Lag})
		if k.Again {
			s.answers = append(s.answers, answer{f, most, w.turn + k.Lag + 3})
		}
	}
	w.fetches = w.fetches[:0]
}

var tenantRoots = [2]cache.Address{cache.Root("test", "0"), cache.Root("test", "1")}

func tenantRoot(tenant int) cache.Address { return tenantRoots[tenant%2] }

// prompt fits a slot: what is too long loses the end of its beginning.
func (s *simulation) prompt(k ask) []engine.Token {
	most := s.Machine.slotTokens - 1
	var begin []engine.Token
	if o, ok := s.asked[k.After]; ok {
		begin = join(o.Prompt, s.w.f.Reference(o.Prompt, o.Sampling, max(0, o.MaxTokens), o.Stop...))
	} else {
		begin = s.text(k.Text)[:k.Shared]
	}
	own := prompt(s.Seed<<8+uint64(k.ID), min(k.Own, most))
	return join(begin[:min(len(begin), most-len(own))], own)
}

// text is one of the texts that many begin with.
func (s *simulation) text(i int) []engine.Token { return prompt(s.Seed<<8+200+uint64(i%2), textTokens) }
