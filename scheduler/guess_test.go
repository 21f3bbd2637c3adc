package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

func TestFind(t *testing.T) {
	run := func(s string) (out []engine.Token) {
		for _, r := range s {
			out = append(out, engine.Token(r))
		}
		return out
	}
	long := "abcdefghijklmnopqrstuvwxyz"
	for _, c := range []struct {
		text   string
		length int
		guess  string // the next six
	}{
		{"a", 0, ""},
		{"abcdef", 0, ""},
		{"abcdea", 0, ""}, // one token is not enough
		{"abcdeab", 2, "cdeabc"},
		{"abXabYab", 2, "YabYab"},                 // the latest of two
		{"cabXabYcab", 3, "XabYca"},               // the longest, though not the latest
		{"aaaa", 3, "aaaaaa"},                     // it overlaps its end
		{"ababab", 4, "ababab"},                   //
		{long + long[:20], 16, "uvwxyz"},          // longer ones are not told apart
		{"abcd" + long[:8] + "..cd", 2, "efgh.."}, // from the latest
	} {
		m := find(run(c.text))
		if m.length != c.length || (m.next == 0) != (c.length == 0) {
			t.Errorf("%q: %+v, want a match of %d", c.text, m, c.length)
			continue
		}
		if m.next == 0 {
			continue
		}
		if got := m.guess(run(c.text), 6); !slices.Equal(got, run(c.guess)) {
			t.Errorf("%q is continued by %v, not by %q", c.text, got, c.guess)
		}
	}
}

// A guess is what an oracle finds that looks at every place.
func TestFindOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		tokens := make([]engine.Token, 1+r.IntN(60))
		for i := range tokens {
			tokens[i] = engine.Token(r.IntN(1 + r.IntN(6)))
		}
		var want match
		for next := 1; next < len(tokens); next++ {
			n := 0
			for n < mostMatch && n < next && tokens[next-1-n] == tokens[len(tokens)-1-n] {
				n++
			}
			if n >= leastMatch && n >= want.length {
				want = match{next, n}
			}
		}
		if got := find(tokens); got.length != want.length || got.length < mostMatch && got != want {
			t.Fatalf("%v: %+v, want %+v", tokens, got, want)
		}
	}
}

// What is far back is not looked for.
func TestFindBound(t *testing.T) {
	tokens := []engine.Token{1, 2, 3}
	for i := range lookBack {
		tokens = append(tokens, engine.Token(10+i))
	}
	if m := find(append(tokens, 1, 2)); m.next != 0 {
		t.Errorf("%+v", m)
	}
	if m := find(append(tokens[:100], 1, 2)); m.next != 2 {
		t.Errorf("%+v", m)
	}
}

// TestOdds: long matches promise more than short ones, what all have drawn moves the
// odds of a length, and a sequence's own draws move its own.
func TestOdds(t *testing.T) {
	o := newOdds()
	for i := leastMatch; i < mostMatch; i++ {
		if o.next(rate{}, i) >= o.next(rate{}, i+1) {
			t.Errorf("a match of %d promises no more than one of %d", i+1, i)
		}
	}
	before := o.next(rate{}, 5)
	for range 500 {
		o[5].learn(true, allDecay)
	}
	if p := o.next(rate{}, 5); p < 0.9 || p <= before {
		t.Errorf("what has been right 500 times promises %.2f", p)
	}
	var own rate
	for range 20 {
		own.learn(false, ownDecay)
	}
	if p := o.next(own, 5); p > 0.35 {
		t.Errorf("to whom it has been wrong 20 times it promises %.2f", p)
	}
	for i := range o {
		if p := o.next(own, i); p < 0 || p > 1 {
			t.Errorf("a probability of %v", p)
		}
	}
}

// cheapRows is a machine on which guessed tokens are nearly free behind the first.
func cheapRows(p *engine.Pass, depth int) int64 {
	n := 0
	for i := range p.Rows {
		n += p.Rows[i].Width()
	}
	return 4e6 + int64(n)*1e6 + int64(n*depth)*1000
}

// guessing runs requests to their end and returns what the engine did.
func guessing(t *testing.T, layout engine.Layout, guess bool, echo, slots, streams int) (*enginetest.Fake, Guesses) {
	t.Helper()
	l := enginetest.DefaultLimits(layout)
	l.Slots, l.SlotTokens, l.PoolTokens = slots, 400, 400*slots
	if layout == engine.Split {
		l.Scratch = (slots+3)/4*4 - slots
	}
	w := newWorld(t, Config{Limits: l})
	if guess {
		w.s.cfg.Guess = GuessGain
	}
	w.f.Echo, w.f.Passes, w.f.Elapsed = echo, 0, 0
	w.f.Cost = cheapRows
	w.calibrate()
	w.f.Passes, w.f.Elapsed = 0, 0
	for i := range streams {
		w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), 40), MaxTokens: 120 + 20*i,
			Sampling: engine.Sampling{Temperature: float32(i % 2), Seed: uint64(i)}})
	}
	w.run()
	for i := range streams {
		want := w.f.Reference(prompt(uint64(i), 40), engine.Sampling{Temperature: float32(i % 2), Seed: uint64(i)}, 120+20*i)
		if got := w.got[ID(i+1)][0]; !slices.Equal(got, want) {
			t.Errorf("stream %d: %v, want %v", i, got, want)
		}
	}
	return w.f, w.s.Stats().Guesses
}

// TestGuess: text that repeats itself comes in fewer passes and less time, the tokens
// are the same; text that does not costs nothing.
func TestGuess(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		for _, slots := range []int{1, 4, 8} {
			t.Run(fmt.Sprint(layout, slots), func(t *testing.T) {
				for streams := 1; streams <= slots; streams += 3 {
					plain, none := guessing(t, layout, false, 40, slots, streams)
					fast, some := guessing(t, layout, true, 40, slots, streams)
					if none.Drafts > 0 || plain.Guessed > 0 {
						t.Errorf("%d streams: guesses though there were to be none: %+v", streams, none)
					}
					if r := float64(fast.Elapsed) / float64(plain.Elapsed); r > 0.95 || streams == 1 && r > 0.6 {
						t.Errorf("%d streams that repeat themselves take %.2f of the time without guesses: %+v", streams, r, some)
					}
					if some.Accepted > some.Tokens || some.Accepted == 0 || some.Drafts > some.Tokens {
						t.Errorf("%d streams: %+v", streams, some)
					}
					sum := 0
					for i, n := range some.ByPosition {
						sum += n
						if i > 0 && n > some.ByPosition[i-1] {
							t.Errorf("%d streams: position %d was right %d times, the one before %d times", streams, i, n, some.ByPosition[i-1])
						}
					}
					if sum != some.Accepted {
						t.Errorf("%d streams: %d were right, by position %d", streams, some.Accepted, sum)
					}
					plain, _ = guessing(t, layout, false, 0, slots, streams)
					dull, _ := guessing(t, layout, true, 0, slots, streams)
					if r := float64(dull.Elapsed) / float64(plain.Elapsed); r > 1.01 {
						t.Errorf("%d streams that never repeat themselves take %.2f of the time without guesses", streams, r)
					}
				}
			})
		}
	}
}

// A model whose slots cannot be trimmed has nothing guessed.
func TestGuessUntrimmed(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Split)
	l.Trims = false
	w := newWorld(t, Config{Limits: l, Guess: GuessGain})
	w.f.Echo = 50
	w.add(Request{ID: 1, Prompt: prompt(1, 40), MaxTokens: 100})
	w.run()
	if g := w.s.Stats().Guesses; g.Drafts > 0 || len(w.got[1][0]) != 100 {
		t.Errorf("%+v, %d tokens", g, len(w.got[1][0]))
	}
}

// TestGuessBesideScores: a row that only scores draws nothing, and so has no guess, though
// in the split layout it shares a pass with rows that have some.
func TestGuessBesideScores(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		l := enginetest.DefaultLimits(layout)
		l.Slots, l.SlotTokens, l.PoolTokens = 4, 400, 1600
		w := newWorld(t, Config{Limits: l, Guess: 1e-9})
		w.f.Echo = 5
		w.add(Request{ID: 1, Prompt: prompt(1, 40), MaxTokens: 300})
		w.until("it guesses", func() bool { return w.s.Stats().Guesses.Accepted > 20 })
		for n := range 40 {
			r := Request{ID: ID(2 + n), Prompt: prompt(uint64(n), 1+n), MaxTokens: -1, PromptScores: true}
			w.add(r)
			w.until("it has been scored", func() bool { return w.done[r.ID][0] != FinishNone })
			w.expectScores(r)
		}
		if w.done[1][0] != FinishNone {
			t.Error("nothing was left to guess")
		}
		w.run()
	}
}
