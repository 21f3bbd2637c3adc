package llama

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
)

// shippedDraft is the draft model that comes with this repository.
const shippedDraft = "../../models/draft/SmolLM2-135M-Instruct-draft.gguf"

// TestSameWithGuesses: what is guessed ahead and verified gives the answers that would
// have come: greedy, each token within ε of the plain loop's best logit; drawn by
// chance, each token the one that its own random number picks from the plain loop's
// distribution, give or take what that distribution moves between two shapes of pass.
func TestSameWithGuesses(t *testing.T) {
	lib, model := files(t)
	prompts, tokens := 3, 24
	if show {
		prompts, tokens = 50, 64
	}
	tok, err := OpenTokenizer(lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	var texts [][]engine.Token
	for i := range prompts {
		text := samePrompt(i)
		if i%3 != 2 { // something to copy
			text = fmt.Sprintf("<|im_start|>user\nRepeat this list word for word: %d lamps, %d ropes, %s, %d jars, %s, a %d year old map.<|im_end|>\n<|im_start|>assistant\n",
				3+i, 20+i, topics[i%len(topics)], 70-i, topics[(i+7)%len(topics)], 100+i)
		}
		ids, err := tok.encode(text, true, true)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, ids)
	}
	whole := openPlain(t, lib, model, 1024, 512)
	cut := openPlain(t, lib, model, 1024, 24)
	epsilon := measureEpsilon(whole, cut, texts, tokens)
	const temperature = 0.8
	delta := measureDelta(whole, cut, texts, tokens, temperature)
	t.Logf("ε = %.3f logits, δ = %.4f of probability", epsilon, delta)

	for _, c := range []struct {
		layout engine.Layout
		slots  int
		draft  string
	}{
		{engine.Split, 1, ""}, {engine.Unified, 8, ""},
		// The model drafts for itself: it is right, but where rounding decides.
		{engine.Split, 8, model}, {engine.Unified, 1, model},
		{engine.Split, 1, shippedDraft}, {engine.Unified, 8, shippedDraft},
	} {
		for _, heat := range []float32{0, temperature} {
			how := "repetitions"
			if c.draft != "" {
				how = "drafts"
			}
			t.Run(fmt.Sprintf("%s/%s/%d slots/temperature %g", how, c.layout, c.slots, heat), func(t *testing.T) {
				var answers [2][][]engine.Token // without guesses, with
				var guesses scheduler.Guesses
				for on := range answers {
					e, err := Open(Options{Lib: lib, Model: model, Layout: c.layout, Slots: c.slots, SlotTokens: 1024, Threads: 2, Draft: c.draft})
					if err != nil {
						t.Fatal(err)
					}
					// Every guess is verified, whether it pays here or not.
					l, err := loop.New(e, loop.Options{Guess: []float64{0, 1e-9}[on], DraftOnly: c.draft != "", Queue: prompts})
					if err != nil {
						e.Close()
						t.Fatal(err)
					}
					var streams []*loop.Stream
					for i, p := range texts {
						s, err := l.Submit(scheduler.Request{Prompt: p, MaxTokens: tokens, Sampling: engine.Sampling{Temperature: heat, Seed: uint64(i)}}, 0)
						if err != nil {
							t.Fatal(err)
						}
						streams = append(streams, s)
					}
					for _, s := range streams {
						answers[on] = append(answers[on], collect(t, s))
					}
					guesses = l.Stats().Guesses
					l.Close()
				}
				same, worst := 0, 0.0
				for i, p := range texts {
					with := answers[1][i]
					if slices.Equal(answers[0][i], with) {
						same++
					}
					if len(with) != tokens {
						t.Errorf("prompt %d: %d tokens of %d", i, len(with), tokens)
					}
					gaps, most := whole.force(p, with), epsilon
					if heat > 0 {
						gaps, most = whole.forceDraws(p, with, heat, uint64(i)), delta
					}
					for k, gap := range gaps {
						worst = max(worst, gap)
						if gap > most {
							t.Errorf("prompt %d: token %d is %.4f off, at most %.4f", i, k, gap, most)
						}
					}
				}
				least := 0
				switch {
				case c.draft == model && heat == 0:
					least = guesses.Tokens * 4 / 5
				case c.draft == model:
					// Draws by chance near the border of a token's share fall to its other side by
					// rounding: draft and verification are passes of different shapes.
					least = guesses.Tokens / 2
				case c.draft == shippedDraft && heat == 0:
					// To repeat a list is what seven layers do worst; and it is asked here whether
					// it pays or not. Over 50 prompts it had 0.42 right.
					least = guesses.Tokens / 5
				case c.draft == shippedDraft:
					least = 1 // 0.34, which three prompts of 24 tokens are too few to show
				}
				if guesses.Accepted < least {
					t.Errorf("%s has %d of %d drafted tokens right, at least %d were expected", c.draft, guesses.Accepted, guesses.Tokens, least)
				}
				if guesses.Tokens == 0 || heat == 0 && guesses.Accepted == 0 {
					t.Errorf("too few guesses to show anything: %+v", guesses)
				}
				t.Logf("%d of %d answers identical with and without guesses; worst token %.4f off; %d of %d guessed tokens were right, in %d guesses",
					same, prompts, worst, guesses.Accepted, guesses.Tokens, guesses.Drafts)
			})
		}
	}
	// A draw of another key is seen.
	caught := 0
	for i, p := range texts {
		answer := whole.greedy(p, tokens)
		if slices.Max(whole.forceDraws(p, answer, temperature, uint64(i))) > delta {
			caught++
		}
	}
	t.Logf("control, tokens that the numbers do not pick: seen in %d of %d prompts", caught, prompts)
	if caught < prompts {
		t.Errorf("greedy tokens would pass for drawn ones in %d of %d prompts", prompts-caught, prompts)
	}
}

// cumulate returns the running sums of the distribution at a temperature, by token.
func cumulate(logits []float32, temperature float32) []float64 {
	peak := slices.Max(logits)
	sums := make([]float64, len(logits))
	total := 0.0
	for i, x := range logits {
		total += math.Exp(float64((x - peak) / temperature))
		sums[i] = total
	}
	for i := range sums {
		sums[i] /= total
	}
	return sums
}

// measureDelta is twice the most by which a running sum differs between two ways of
// feeding the prompt.
func measureDelta(a, b *plain, prompts [][]engine.Token, tokens int, temperature float32) float64 {
	drift := 0.0
	for _, p := range prompts {
		a.reset()
		b.reset()
		a.feed(p...)
		b.feed(p...)
		for range tokens {
			x, y := cumulate(a.logits, temperature), cumulate(b.logits, temperature)
			for i := range x {
				drift = max(drift, math.Abs(x[i]-y[i]))
			}
			best := a.best()
			a.feed(best)
			b.feed(best)
		}
	}
	return 2 * drift
}

// forceDraws feeds an answer token by token and returns how far each token's share of
// [0, 1) was from the number that drew it.
func (p *plain) forceDraws(prompt, answer []engine.Token, temperature float32, seed uint64) []float64 {
	p.t.Helper()
	p.reset()
	p.feed(prompt...)
	var gaps []float64
	for k, t := range answer {
		u := engine.Draw(seed, 0, int32(len(prompt)+k), 0)
		sums := cumulate(p.logits, temperature)
		low := 0.0
		if t > 0 {
			low = sums[t-1]
		}
		gaps = append(gaps, max(0, low-u, u-sums[t]))
		if k < len(answer)-1 {
			p.feed(t)
		}
	}
	return gaps
}
