package llama

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
)

// What "the same answer" means on a real model: kernels round differently in
// passes of different shape, so tokens near a tie may differ. An answer is the
// same when each of its tokens, given those before it, is within ε of the best
// logit of a plain one-sequence loop. ε is measured in the same run: twice the
// most by which the distance between near-best tokens differs in that very loop
// between two ways of feeding it the prompt.

// show makes the tests of this file run at full size and print their figures.
var show = os.Getenv("LLAMERO_SHOW") != ""

var topics = []string{
	"the tides of a northern harbour", "how bread rises", "a clock that runs backwards", "the rules of chess",
	"why leaves turn red", "a letter to a lighthouse keeper", "the first railway over the mountains", "sorting numbers",
	"a recipe with three ingredients", "what bees know about geometry", "the history of paper", "a storm at sea",
	"learning to ride a bicycle", "the moons of Jupiter", "a market in the early morning", "how a lock works",
	"the colour blue", "a walk through an empty theatre", "mending a broken chair", "rivers that flow north",
}

// samePrompt is a chat prompt about a topic, some 60 to 300 tokens long.
func samePrompt(i int) string {
	topic := topics[i%len(topics)]
	var b strings.Builder
	fmt.Fprintf(&b, "<|im_start|>system\nYou are a patient writer.<|im_end|>\n<|im_start|>user\nHere are notes about %s.", topic)
	for k := range 2 + i*3%13 {
		fmt.Fprintf(&b, " Note %d of %d: somebody once asked about %s, and nobody could say more than %d words.",
			k+1, i+1, topics[(i+k*7+3)%len(topics)], 10+(i*31+k*17)%90)
	}
	fmt.Fprintf(&b, " Write a short text about %s.<|im_end|>\n<|im_start|>assistant\n", topic)
	return b.String()
}

func TestSameAsPlainLoop(t *testing.T) {
	lib, model := files(t)
	prompts, tokens := 6, 24
	if show {
		prompts, tokens = 20, 48
	}
	tok, err := OpenTokenizer(lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	var texts [][]engine.Token
	for i := range prompts {
		ids, err := tok.encode(samePrompt(i), true, true)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, ids)
	}
	whole := openPlain(t, lib, model, 1024, 512)
	cut := openPlain(t, lib, model, 1024, 64)
	epsilon := measureEpsilon(whole, cut, texts, tokens)
	reference := make([][]engine.Token, prompts)
	for i, p := range texts {
		reference[i] = whole.greedy(p, tokens)
	}
	t.Logf("ε = %.3f logits (twice the plain loop's own drift between prompt chunks of 512 and of 64 tokens)", epsilon)

	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		for _, c := range []struct {
			others int
			pages  int // 0: none
			warm   bool
		}{{0, 0, false}, {31, 0, false}, {0, 1000, true}, {31, 1000, true}, {31, 24, true}} {
			others := c.others
			if !show {
				if c.pages > 0 && (others == 0 || c.pages < 100) {
					continue // the whole takes a quarter of an hour
				}
				others = min(others, 7)
			}
			var slab []byte
			if c.pages > 0 {
				slab = make([]byte, c.pages*defaultPageTokens*tokenBytes(whole.model, llama.GGMLTypeF16, llama.GGMLTypeF16))
			}
			t.Run(fmt.Sprintf("%s/%d others/%d pages", layout, others, c.pages), func(t *testing.T) {
				e, err := Open(Options{Lib: lib, Model: model, Layout: layout, Slots: others + 1, SlotTokens: 1024, Threads: 2,
					Slab: slab})
				if err != nil {
					t.Fatal(err)
				}
				l, err := loop.New(e, loop.Options{Pages: accountFor(t, e)})
				if err != nil {
					e.Close()
					t.Fatal(err)
				}
				defer l.Close()
				answers := ask(t, l, texts, tokens, others)
				if c.warm {
					answers = ask(t, l, texts, tokens, others)
					if st := l.Stats().Pages; c.pages < 100 && st.Evictions == 0 {
						t.Errorf("nothing had to go: %+v", st)
					}
				}
				same, within, total, worst := 0, 0, 0, 0.0
				for i, p := range texts {
					answer := answers[i]
					if slices.Equal(answer, reference[i]) {
						same++
					}
					if len(answer) < tokens {
						t.Errorf("prompt %d: %d tokens of %d", i, len(answer), tokens)
					}
					for k, gap := range whole.force(p, answer) {
						total++
						worst = max(worst, gap)
						if gap <= epsilon {
							within++
						} else {
							t.Errorf("prompt %d: token %d is %.3f below the best logit (ε %.3f)", i, k, gap, epsilon)
						}
					}
				}
				t.Logf("%d of %d tokens within ε (worst %.3f), %d of %d answers identical", within, total, worst, same, prompts)
			})
		}
	}

	// What must be seen if it happened: KV of somebody else's prefix, a page in the
	// place of the one before it, a draft that was not rolled back. A single token's
	// shift moves tokens by less than rounding does: it is printed, and caught by
	// the conformance suite, which compares log-probabilities.
	const page = 32
	controls := []struct {
		name  string
		must  bool
		spoil func(i int, p []engine.Token) []engine.Token
	}{
		{"a foreign page", true, func(i int, p []engine.Token) []engine.Token {
			q := texts[(i+1)%prompts]
			n := min(2*page, len(p)-8, len(q))
			return append(slices.Clone(q[len(q)-n:]), p[n:]...)
		}},
		{"pages shifted by one", true, func(_ int, p []engine.Token) []engine.Token {
			end := (len(p) - 1) / page * page // full pages; the last one's place is taken by the first
			return slices.Concat(p[page:end], p[:page], p[end:])
		}},
		{"a draft not rolled back", true, func(_ int, p []engine.Token) []engine.Token {
			return append(slices.Clone(p), 28, 216)
		}},
		{"a page shifted by one token", false, func(_ int, p []engine.Token) []engine.Token {
			end := (len(p) - 1) / page * page
			return slices.Concat(p[:end-page], p[end-page+1:end+1], p[end:])
		}},
	}
	for _, c := range controls {
		caught := 0
		for i, p := range texts {
			answer := whole.greedy(c.spoil(i, p), tokens)
			if slices.Max(whole.force(p, answer)) > epsilon {
				caught++
			}
		}
		t.Logf("control, %s: seen in %d of %d prompts", c.name, caught, prompts)
		if c.must && caught == 0 {
			t.Errorf("%s would pass for the same answer in all %d prompts", c.name, prompts)
		}
	}
}

// ask returns the answers to all texts: alone, one after the other; in company, all
// at once beside others.
func ask(t *testing.T, l *loop.Loop, texts [][]engine.Token, tokens, others int) [][]engine.Token {
	t.Helper()
	answers := make([][]engine.Token, len(texts))
	var streams, company []*loop.Stream
	for i, p := range texts {
		if others == 0 {
			answers[i] = collect(t, submit(t, l, p, tokens))
		} else {
			streams = append(streams, submit(t, l, p, tokens))
		}
	}
	for k := range max(0, others+1-len(texts)) {
		company = append(company, submit(t, l, texts[(k+3)%len(texts)], tokens))
	}
	for i, s := range streams {
		answers[i] = collect(t, s)
	}
	for _, s := range company {
		collect(t, s)
	}
	return answers
}

// accountFor keeps the books of an engine's pages, if it has any.
func accountFor(t *testing.T, e *Engine) loop.Pages {
	t.Helper()
	l := e.Limits()
	if l.Pages == 0 {
		return loop.Pages{}
	}
	lru, err := store.NewLRU(l.Pages)
	if err != nil {
		t.Fatal(err)
	}
	return loop.Pages{Host: cache.NewHost(l.Pages, l.PageTokens, lru), Root: func(tenant string) cache.Address { return cache.Root(tenant) }}
}

// measureEpsilon compares how far tokens are behind the best one, between two
// chunkings of the plain loop, over the tokens that a tie could be about: those
// within a logit of the best.
func measureEpsilon(a, b *plain, prompts [][]engine.Token, tokens int) float64 {
	const near = 1
	drift := 0.0
	for _, p := range prompts {
		a.reset()
		b.reset()
		a.feed(p...)
		b.feed(p...)
		for range tokens {
			best := a.best()
			for i, x := range a.logits {
				if gap := a.logits[best] - x; gap <= near {
					drift = max(drift, math.Abs(float64(gap-(b.logits[best]-b.logits[i]))))
				}
			}
			a.feed(best)
			b.feed(best)
		}
	}
	return 2 * drift
}

func submit(t testing.TB, l *loop.Loop, prompt []engine.Token, n int) *loop.Stream {
	t.Helper()
	s, err := l.Submit(scheduler.Request{Prompt: prompt, MaxTokens: n}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func collect(t testing.TB, s *loop.Stream) []engine.Token {
	t.Helper()
	var out []engine.Token
	for {
		events, err := s.Next(context.Background())
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			for _, x := range e.Tokens {
				out = append(out, x.Token)
			}
			if e.Finish == scheduler.FinishError {
				t.Fatal(e.Err)
			}
		}
	}
}
