package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// drafting is an engine with a draft model, and who uses it.
type drafting struct {
	layout   engine.Layout
	slots    int
	streams  int
	prompt   int
	wrong    int   // one in so many drafted tokens is
	cost     int64 // of a drafted token, where a pass of one row takes 5 ms
	perToken int64 // of each token more
	off      bool
	only     bool
	echo     int
}

// run serves the streams to their ends, holds what they got against the reference, and
// returns the engine and what was guessed.
func (d drafting) run(t *testing.T) (*enginetest.Fake, Stats) {
	t.Helper()
	l := enginetest.DefaultLimits(d.layout)
	l.Slots, l.SlotTokens, l.Draft = d.slots, 600, 8
	l.PoolTokens = l.Slots * l.SlotTokens
	if d.layout == engine.Split {
		l.Scratch = (d.slots+3)/4*4 - d.slots
	}
	cfg := Config{Limits: l, Guess: GuessGain, DraftOnly: d.only}
	if d.off {
		cfg.Guess = 0
	}
	w := newWorld(t, cfg)
	w.f.Wrong, w.f.DraftCost, w.f.Echo = d.wrong, d.cost, d.echo
	w.f.Cost = func(p *engine.Pass, _ int) int64 {
		n, attended := 0, 0
		for i := range p.Rows {
			n += p.Rows[i].Width()
			attended += p.Rows[i].Width() * int(p.Rows[i].Pos)
		}
		return 5e6 + int64(n-1)*d.perToken + int64(attended)*100
	}
	w.s.costs = NewCosts(l)
	w.calibrate()
	w.f.Elapsed, w.f.Drafted = 0, 0
	for i := range d.streams {
		w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), d.prompt), MaxTokens: 200,
			Sampling: engine.Sampling{Temperature: float32(i % 2), Seed: uint64(i)}})
	}
	w.run()
	for i := range d.streams {
		want := w.f.Reference(prompt(uint64(i), d.prompt), engine.Sampling{Temperature: float32(i % 2), Seed: uint64(i)}, 200)
		if got := w.got[ID(i+1)][0]; !slices.Equal(got, want) {
			t.Errorf("stream %d: %v, want %v", i, got, want)
		}
	}
	return w.f, w.s.Stats()
}

// TestDrafts: where what the draft model costs is less than what it spares, answers come
// sooner, and elsewhere it is left alone; the tokens are the same.
func TestDrafts(t *testing.T) {
	type bound struct{ one, many float64 } // the most, of the time without drafts
	for _, c := range []struct {
		name string
		drafting
		bound
	}{
		{"good and cheap", drafting{wrong: 10, cost: 3e5, perToken: 3e5}, bound{0.35, 0.7}},
		{"always right", drafting{cost: 3e5, perToken: 3e5}, bound{0.25, 0.6}},
		{"middling and cheap", drafting{wrong: 3, cost: 3e5, perToken: 3e5}, bound{0.63, 0.9}},
		{"mostly wrong", drafting{wrong: 1, cost: 3e5, perToken: 3e5}, bound{1.03, 1.02}},
		{"too dear", drafting{wrong: 10, cost: 5e6, perToken: 3e5}, bound{1.01, 1.01}},
		{"wide passes too dear", drafting{wrong: 3, cost: 3e5, perToken: 5e6}, bound{1.01, 1.01}},
		{"a long text first", drafting{wrong: 3, cost: 3e5, perToken: 3e5, prompt: 390}, bound{0.63, 1.01}},
		{"beside repetitions", drafting{wrong: 10, cost: 3e5, perToken: 3e5, echo: 30}, bound{0.26, 0.72}},
		{"alone beside repetitions", drafting{wrong: 10, cost: 3e5, perToken: 3e5, echo: 30, only: true}, bound{0.4, 0.72}},
	} {
		for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
			for _, streams := range []int{1, 3, 8} {
				t.Run(fmt.Sprint(c.name, "/", layout, "/", streams), func(t *testing.T) {
					d := c.drafting
					d.layout, d.slots, d.streams, d.prompt = layout, 8, streams, max(d.prompt, 30)
					on, st := d.run(t)
					d.off = true
					off, _ := d.run(t)
					ratio := float64(on.Elapsed) / float64(off.Elapsed)
					t.Logf("%.3f of the time; %d of %d drafted tokens right in %d drafts", ratio, st.Drafts.Accepted, st.Drafts.Tokens, st.Drafts.Drafts)
					most := c.many
					if streams == 1 {
						most = c.one
					}
					if ratio > most {
						t.Errorf("%.3f of the time without drafts; at most %.2f was expected", ratio, most)
					}
					if off.Drafted > 0 {
						t.Error("drafts though there were to be none")
					}
					g := st.Drafts
					if g.Accepted > g.Tokens || g.Drafts > g.Tokens || g.Tokens > on.Drafted || st.Guesses.Tokens < g.Tokens {
						t.Errorf("%+v of %+v, the engine drafted %d", g, st.Guesses, on.Drafted)
					}
					if d.only && st.Guesses != g {
						t.Errorf("repetitions were guessed: %+v, drafted %+v", st.Guesses, g)
					}
				})
			}
		}
	}
}

// What has been learnt of drafts fades where none are made, so that they are tried again.
func TestDraftsAgain(t *testing.T) {
	r := newDraftRate()
	for range 400 {
		r.learn(false, allDecay)
	}
	var own rate
	if x := own.among(r, ownDrafts); x > 0.2 {
		t.Errorf("what was wrong 400 times promises %.2f", x)
	}
	for range 3000 {
		r.fade(allFade, newDraftRate())
	}
	if x := own.among(r, ownDrafts); x < 0.9*hopeful || x > hopeful {
		t.Errorf("long after, it promises %.2f", x)
	}
	for range 50 {
		own.learn(false, ownDraftDecay)
	}
	low := own.among(newDraftRate(), ownDrafts)
	for range 300 {
		own.fade(ownFade, rate{})
	}
	if x := own.among(newDraftRate(), ownDrafts); x <= low || x < 0.9*hopeful {
		t.Errorf("to whom it was wrong 50 times it promises %.2f, and long after %.2f", low, x)
	}
}
