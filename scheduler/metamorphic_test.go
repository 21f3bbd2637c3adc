package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// axes are what must not change a request's tokens.
type axes struct {
	layout     engine.Layout
	slots      int
	slotTokens int
	pool       int
	passTokens int
	trims      bool
	target     int64
	pageTokens int
	pages      int // 0: none
	follow     int
	insure     bool
	remote     bool
	failEvery  uint64
	cancels    bool
	stranger   bool
	guess      float64
	echo       int // the text repeats itself
	draft      int // tokens that the draft model gives; 0: there is none
	wrong      int // one in so many of them is wrong
	draftOnly  bool
}

func (a axes) limits() engine.Limits {
	l := enginetest.DefaultLimits(a.layout)
	l.Slots, l.SlotTokens, l.PassTokens, l.Trims = a.slots, a.slotTokens, a.passTokens, a.trims
	l.PageTokens, l.Pages = a.pageTokens, a.pages
	l.PoolTokens = l.Slots * l.SlotTokens
	if a.layout == engine.Unified {
		l.PoolTokens = max(a.pool, a.slotTokens)
	} else {
		l.Scratch = (a.slots+3)/4*4 - a.slots
	}
	l.PassOutputs = max(l.Slots+l.Scratch, 16)
	if l.Trims {
		l.Draft = a.draft
	}
	return l
}

func randomAxes(r *rand.Rand) axes {
	return axes{
		layout: []engine.Layout{engine.Split, engine.Unified}[r.IntN(2)],
		slots:  1 + r.IntN(13), slotTokens: 64 + r.IntN(200), pool: 64 + r.IntN(1200),
		passTokens: 16 + r.IntN(120), trims: r.IntN(5) > 0, target: int64(5+r.IntN(200)) * 1e6,
		pageTokens: 1 + r.IntN(20), pages: r.IntN(3) * r.IntN(60), follow: 1 + r.IntN(60), remote: r.IntN(2) == 0,
		failEvery: uint64(r.IntN(3) * (3 + r.IntN(20))), cancels: r.IntN(2) == 0, stranger: r.IntN(2) == 0,
		guess: [...]float64{0, GuessGain, 1e-9}[r.IntN(3)], echo: r.IntN(3) * (1 + r.IntN(20)),
		draft: r.IntN(2) * (1 + r.IntN(9)), wrong: r.IntN(3) * (1 + r.IntN(10)), draftOnly: r.IntN(4) == 0, insure: r.IntN(2) == 0,
	}
}

// TestMetamorphic: whatever the machine looks like and whatever happens beside
// it, a request's tokens are the reference's.
func TestMetamorphic(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	for seed := range uint64(n) {
		if !metamorphic(t, seed) {
			t.Fatalf("reproduce with: go test ./scheduler -run 'TestMetamorphicSeed' -seed %d", seed)
		}
	}
}

func metamorphic(t *testing.T, seed uint64) bool {
	r := rand.New(rand.NewPCG(seed, 2))
	a := randomAxes(r)
	ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
		w := newWorld(t, Config{Limits: a.limits(), TargetITL: a.target, Follow: a.follow, Insure: a.insure, KeepSaved: a.remote, Guess: a.guess, DraftOnly: a.draftOnly})
		if a.remote && a.pages > 0 {
			w.remote = map[cache.Address][]byte{}
		}
		w.f.EOG, w.f.EOGEvery, w.f.Echo, w.f.Wrong = 7, 20, a.echo, a.wrong
		if a.failEvery > 0 {
			w.f.Fail = func(step uint64, pass int) error {
				if step%a.failEvery == a.failEvery-1 && r.IntN(2) == 0 {
					return errors.New("injected")
				}
				return nil
			}
		}
		var requests []Request
		for i := range 1 + r.IntN(14) {
			q := Request{
				ID:        ID(i + 1),
				Tenant:    fmt.Sprint("t", r.IntN(3)),
				Priority:  r.IntN(3) - 1,
				Prompt:    prompt(seed*100+uint64(i), 1+r.IntN(a.slotTokens-2)),
				MaxTokens: r.IntN(40),
				Choices:   1 + max(0, r.IntN(6)-3),
				Stop:      []engine.Token{7},
				Sampling:  engine.Sampling{Temperature: float32(r.IntN(2)), Seed: r.Uint64()},
			}
			if r.IntN(2) == 0 { // one of two texts that others begin with too
				q.Prompt = append(prompt(seed*100+50+uint64(r.IntN(2)), r.IntN(len(q.Prompt))), q.Prompt...)[:len(q.Prompt)]
			}
			q.Paged, q.Root = r.IntN(8) > 0, cache.Root("test", q.Tenant)
			q.PromptScores = r.IntN(6) == 0
			requests = append(requests, q)
		}
		added := 0
		for added < len(requests) || w.s.Stats().Running+w.s.Stats().Waiting > 0 {
			for added < len(requests) && r.IntN(3) == 0 {
				w.add(requests[added])
				w.look(requests[added].ID)
				added++
			}
			if r.IntN(3) == 0 {
				w.arrive(r.IntN(20))
			}
			if a.cancels && added > 0 && r.IntN(10) == 0 {
				q := requests[r.IntN(added)]
				if r.IntN(2) == 0 {
					w.take(w.s.Cancel(q.ID, w.now))
				} else {
					w.take(w.s.CancelChoice(q.ID, r.IntN(q.Choices), w.now))
				}
			}
			w.step()
		}
		w.run()
		for _, q := range requests {
			failed := slices.Contains(w.done[q.ID], FinishError)
			if failed && a.failEvery == 0 {
				t.Errorf("request %d failed without a fault", q.ID)
			}
			if !failed {
				w.expect(q)
			}
			if q.PromptScores && w.done[q.ID][0] != FinishCancel && !failed {
				w.expectScores(q)
			}
		}
	})
	return ok
}

// TestMetamorphicSeed runs one seed of TestMetamorphic.
func TestMetamorphicSeed(t *testing.T) { metamorphic(t, *seedFlag) }
