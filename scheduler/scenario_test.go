package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"llamero/engine"
)

// scenario is all that happens in a simulation, as a plain value: what the machine is
// like, who asks for what and when, and what goes wrong. Nothing else decides anything,
// so it can be cut down, act by act, for as long as it shows a failure.
type scenario struct {
	Seed    uint64 // of the texts
	Machine setup
	Acts    []act // in the order of their turns
}

// setup is what a scenario runs on.
type setup struct {
	axes
	queue      int
	eogEvery   int
	writeLag   int
	writeRoom  int
	calibrated bool
	unsteady   bool // passes take as long as they like
}

// act is one thing that happens, before the step of its turn.
type act struct {
	Turn int
	Kind actKind
	Ask  ask   // ask
	ID   ID    // cancel: whom
	N    int   // cancel: the choice, or all; warm: pages; forget, spoil: which value; wait: milliseconds
	Text int   // warm: which shared text, and whose
	Flaw flaw  // spoil
	Fail fault // fail
}

type actKind uint8

const (
	asks       actKind = iota // a request comes
	cancels                   // a client goes
	warms                     // another gateway has computed the beginning of a shared text
	forgets                   // the remote tier loses a page
	spoils                    // the remote tier has something else in a page's place
	fails                     // a step does
	waits                     // time passes
	gives                     // the engine does not come back: everybody is told so
	numberActs                // how many there are
)

func (k actKind) String() string {
	return [numberActs]string{"ask", "cancel", "warm", "forget", "spoil", "fail", "wait", "give up"}[k]
}

const everyChoice = -1

// ask is a request, and what the remote tier makes of it.
type ask struct {
	ID       ID
	Tenant   int
	Priority int
	After    ID  // a conversation goes on: the prompt begins with that one's prompt and answer
	Shared   int // otherwise with so many tokens of a text that others begin with too:
	Text     int // this one
	Own      int // tokens of its own behind that
	Answer   int // MaxTokens
	Choices  int
	Sampled  bool
	Scores   bool
	Unpaged  bool
	Patience int  // milliseconds that it waits for its slot; 0: for ever
	Deadly   int  // it kills the engine whenever it computes its token Deadly-1 or one behind; 0: never
	Fragile  bool // and so it does whenever KV is copied into its slot
	Lag      int  // turns until the remote tier answers
	Most     int  // pages that it finds at most, the others come too late; 0: any number
	Again    bool // it answers twice
}

// flaw is how a page is spoilt.
type flaw uint8

const (
	foreign     flaw = iota // another page stands in its place
	torn                    // its second half was never written
	numberFlaws             // how many there are
)

// fault is how a step fails: the first one of its turn or later that has such a place.
type fault struct {
	Where place
	N     int  // which edit or pass, counted around
	Lost  bool // the engine is gone, with all that its slots held
	Mute  bool // it was lost, and had not said that its edits were done
	Away  int  // turns until it is back
}

type place uint8

const (
	notBegun      place = iota // the engine was gone before it had the plan
	beforeEdits                // nothing has been done
	amidEdits                  // those before have been done
	amidSave                   // of a page only half has been written
	beforePass                 // nothing has been told
	betweenPasses              // what the passes before gave has been told
	afterAll                   // nothing was left but to say so
	numberPlaces               // how many there are
)

const textTokens = 96 // of a shared text

// newScenario is decided by its seed. Each has some kinds of trouble and lacks others,
// so that none is always hidden behind another.
func newScenario(seed uint64) scenario {
	r := rand.New(rand.NewPCG(seed, 31))
	chance := func(in int) bool { return r.IntN(in) == 0 }
	m := setup{
		axes: axes{
			slots: 1 + r.IntN(6), slotTokens: 24 + r.IntN(72), passTokens: 12 + r.IntN(60), trims: !chance(6),
			target: int64(5+r.IntN(120)) * 1e6, pageTokens: 1 + r.IntN(12), follow: 1 + r.IntN(32),
		},
		queue: 1 + r.IntN(24), calibrated: chance(2), eogEvery: r.IntN(2) * (5 + r.IntN(20)),
		unsteady: chance(3),
	}
	requests := 1 + r.IntN(15)
	if chance(20) {
		m.slots, m.passTokens, requests = 8+r.IntN(9), m.passTokens+20, 20+r.IntN(20)
	}
	m.layout = engine.Split
	crowded := false // short prompts and long answers that do not fit all at once
	if chance(2) {
		m.layout, m.pool = engine.Unified, 24+r.IntN(m.slots*m.slotTokens)
		if crowded = chance(3); crowded {
			m.slots, m.pool = 4+r.IntN(5), m.slotTokens+r.IntN(2*m.slotTokens)
		}
	}
	if !chance(6) {
		m.pages = 1 + r.IntN(36)
		m.remote = !chance(3)
		m.insure = chance(2)
	}
	if m.remote {
		m.writeLag, m.writeRoom = r.IntN(2)*r.IntN(12), r.IntN(2)*(1+r.IntN(8))
	}
	if r := rand.New(rand.NewPCG(seed, 33)); r.IntN(2) == 0 { // the other settings of a seed stay what they are without
		m.guess, m.echo = [...]float64{GuessGain, 1e-9}[r.IntN(2)], r.IntN(2)*(1+r.IntN(20))
		m.draft, m.wrong, m.draftOnly = r.IntN(3)*(1+r.IntN(4)), r.IntN(3)*(1+r.IntN(6)), r.IntN(4) == 0
	}
	s := scenario{Seed: seed, Machine: m}
	g := generator{Rand: r, scenario: &s, turns: 4 + r.IntN(60), crowded: crowded}
	g.requests(requests)
	if chance(2) {
		g.repeat(r.IntN(6), func() act {
			a := act{Kind: cancels, ID: g.someone(), N: everyChoice}
			if chance(3) {
				a.N = r.IntN(4)
			}
			return a
		})
	}
	if m.remote {
		g.repeat(r.IntN(6), func() act { return act{Kind: warms, Text: r.IntN(4), N: 1 + r.IntN(textTokens/m.pageTokens)} })
		g.repeat(r.IntN(2)*r.IntN(6), func() act { return act{Kind: forgets, N: r.IntN(64)} })
		g.repeat(r.IntN(2)*r.IntN(6), func() act { return act{Kind: spoils, N: r.IntN(64), Flaw: flaw(r.IntN(int(numberFlaws)))} })
	}
	if chance(3) {
		g.repeat(r.IntN(4), func() act { return act{Kind: waits, N: 1 + r.IntN(400)} })
	}
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		g.repeat(1+r.IntN(4), func() act { return act{Kind: fails, Fail: g.fault()} })
	case 4: // again and again in a row
		f, turn := g.fault(), r.IntN(g.turns)
		for i := range 2 + r.IntN(5)*r.IntN(12) {
			s.Acts = append(s.Acts, act{Turn: turn + i, Kind: fails, Fail: f})
		}
	}
	if chance(30) {
		g.repeat(1, func() act { return act{Kind: gives} })
	}
	slices.SortStableFunc(s.Acts, func(a, b act) int { return a.Turn - b.Turn })
	return s
}

// generator fills a scenario.
type generator struct {
	*rand.Rand
	*scenario
	turns   int
	crowded bool
	asked   ID
}

func (g *generator) repeat(n int, one func() act) {
	for range n {
		a := one()
		if a.Turn = g.IntN(g.turns); a.Kind == warms {
			a.Turn /= 4
		}
		g.Acts = append(g.Acts, a)
	}
}

// someone is a request's ID.
func (g *generator) someone() ID { return 1 + ID(g.IntN(int(g.asked))) }

// requests come one by one, or in a burst.
func (g *generator) requests(n int) {
	m := &g.Machine
	chats, choices, deadlines, scores := g.IntN(3) == 0, g.IntN(3) == 0, g.IntN(3) == 0, g.IntN(4) == 0
	killers := 0
	if g.IntN(4) == 0 {
		killers = 1 + g.IntN(2)
	}
	burst := g.IntN(3) == 0
	answer := []int{12, 24, m.slotTokens}[g.IntN(3)]
	turn := 0
	for range n {
		k := ask{
			Tenant: g.IntN(2), Priority: g.IntN(4) / 3, Own: 1 + g.IntN(m.slotTokens/2), Answer: 1 + g.IntN(answer), Choices: 1,
			Sampled: g.IntN(2) == 0, Unpaged: g.IntN(10) == 0, Lag: g.IntN(10), Most: g.IntN(2) * g.IntN(12), Again: g.IntN(8) == 0,
		}
		if g.IntN(2) == 0 {
			k.Text, k.Shared = g.IntN(2), g.IntN(m.slotTokens)
			k.Own = 1 + g.IntN(8)
		}
		if chats && g.asked > 0 && g.IntN(2) == 0 {
			k.After, k.Own = g.someone(), 1+g.IntN(8)
		}
		if choices && g.IntN(2) == 0 {
			k.Choices = 1 + g.IntN(4)
		}
		if deadlines && g.IntN(2) == 0 {
			k.Patience = 1 + g.IntN(600)
		}
		if scores && g.IntN(3) == 0 {
			k.Scores = true
			if g.IntN(3) == 0 {
				k.Answer = -1
			}
		}
		if killers > 0 && g.IntN(3) == 0 {
			killers--
			if g.IntN(4) == 0 {
				k.Fragile = true
			} else {
				k.Deadly = 1 + g.IntN(m.slotTokens/2)
			}
		}
		if g.crowded && g.IntN(4) > 0 {
			k.Own, k.Shared, k.Answer = 1+g.IntN(8), k.Shared/4, m.slotTokens/2+g.IntN(m.slotTokens)
		}
		if g.IntN(20) == 0 {
			k.Answer = 0 // to the slot's end
		}
		g.asked++
		k.ID = g.asked
		g.Acts = append(g.Acts, act{Turn: turn, Kind: asks, Ask: k})
		if !burst {
			turn += g.IntN(max(1, 2*g.turns/n))
		}
	}
}

func (g *generator) fault() fault {
	f := fault{Where: place(g.IntN(int(numberPlaces))), N: g.IntN(8), Lost: g.IntN(2) == 0, Away: g.IntN(2) * g.IntN(8), Mute: g.IntN(4) == 0}
	f.Lost = f.Lost || f.Where == notBegun
	return f
}

// String is the scenario for people, an act a line.
func (s scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d on %+v\n", s.Seed, s.Machine)
	for _, a := range s.Acts {
		fmt.Fprintf(&b, "turn %d: %s ", a.Turn, a.Kind)
		switch a.Kind {
		case asks:
			fmt.Fprintf(&b, "%+v", a.Ask)
		case cancels:
			fmt.Fprintf(&b, "request %d, choice %d", a.ID, a.N)
		case warms:
			fmt.Fprintf(&b, "%d pages of text %d", a.N, a.Text)
		case spoils:
			fmt.Fprintf(&b, "%d (flaw %d)", a.N, a.Flaw)
		case fails:
			fmt.Fprintf(&b, "%+v", a.Fail)
		case forgets, waits:
			fmt.Fprint(&b, a.N)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
