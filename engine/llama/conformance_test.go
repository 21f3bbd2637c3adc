package llama

import (
	"strings"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/tokenizer"
)

// epsilon is how far log-probabilities of one text may lie apart when its passes
// had other shapes, in nats: attention over 512 cells, or of 64 rows and more, takes
// other kernels. With the default model up to 0.5 is seen in the unified layout
// and 0 in the split one; another text is 5 away.
const epsilon = 1

// texts are two prompts with nothing in common.
var texts = [2]string{
	strings.Repeat("The harbour lay quiet under a grey morning, and the fishermen mended their nets while gulls argued over scraps. ", 4),
	strings.Repeat("func add(a, b int) int { return a + b } // sums two integers; overflow wraps around as the language says. ", 4),
}

func TestConformance(t *testing.T) {
	lib, model := files(t)
	tok, err := OpenTokenizer(lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	opt := enginetest.Options{Epsilon: epsilon, DraftsItself: true}
	for i, text := range texts {
		if opt.Prompts[i], err = tok.Encode(text, tokenizer.EncodeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	small, err := Open(Options{Lib: lib, Model: model, Slots: 1, SlotTokens: 256})
	if err != nil {
		t.Fatal(err)
	}
	tokenBytes := small.Limits().TokenBytes
	small.Close()
	for _, c := range []struct {
		name string
		opt  Options
		pool int // tokens; 0: all slots
	}{
		{"split", Options{Layout: engine.Split, Slots: 18, SlotTokens: 256, PassTokens: 128}, 0},
		{"unified", Options{Layout: engine.Unified, Slots: 18, SlotTokens: 512, PassTokens: 128}, 0},
		{"unified, small pool", Options{Layout: engine.Unified, Slots: 6, SlotTokens: 256, PassTokens: 128}, 1024},
		{"split, drafts", Options{Layout: engine.Split, Slots: 6, SlotTokens: 256, PassTokens: 128, Draft: model}, 0},
		{"unified, drafts", Options{Layout: engine.Unified, Slots: 6, SlotTokens: 256, PassTokens: 128, Draft: model}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			enginetest.Conformance(t, func(t *testing.T) engine.Engine {
				c.opt.Lib, c.opt.Model, c.opt.KVBudget = lib, model, int64(c.pool*tokenBytes)
				c.opt.PageTokens, c.opt.Slab = 16, make([]byte, 30*16*tokenBytes)
				e, err := Open(c.opt)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Unpaged(); err != nil {
					t.Fatal(err)
				}
				return e
			}, opt)
		})
	}
}
