//go:build unix

package worker

import (
	"strings"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/engine/llama"
	"llamero/tokenizer"
)

// TestFakeConforms: the suite that the fake passes it passes in another process. A
// small ring makes saves wait for room.
func TestFakeConforms(t *testing.T) {
	for name, change := range map[string]func(*engine.Limits){
		"split":               func(l *engine.Limits) { l.Layout = engine.Split },
		"split, not trimmed":  func(l *engine.Limits) { l.Layout, l.Trims = engine.Split, false },
		"unified":             func(l *engine.Limits) { l.Layout, l.Scratch = engine.Unified, 1 },
		"unified, small pool": func(l *engine.Limits) { l.Layout, l.Scratch, l.PoolTokens = engine.Unified, 1, 700 },
		"split, drafts":       func(l *engine.Limits) { l.Draft = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			l := enginetest.DefaultLimits(engine.Split)
			l.Slots, l.Scratch = 18, 2
			l.PoolTokens = l.Slots * l.SlotTokens
			change(&l)
			for ring, size := range map[string]int64{"ring": 8 << 10, "small ring": 200} {
				t.Run(ring, func(t *testing.T) {
					enginetest.Conformance(t, func(t *testing.T) engine.Engine {
						return running(t, fakeModel{Limits: l}, func(o *Options) { o.Ring = size })
					}, enginetest.Options{DraftsItself: true})
				})
			}
		})
	}
}

// TestLlamaConforms: so does llama.cpp.
func TestLlamaConforms(t *testing.T) {
	lib, model := files(t)
	e, err := StartEncoder(children(t, childReal), lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	opt := enginetest.Options{Epsilon: 1, DraftsItself: true} // as engine/llama's own tests have it
	for i, text := range []string{
		"The harbour lay quiet under a grey morning, and the fishermen mended their nets while gulls argued over scraps. ",
		"func add(a, b int) int { return a + b } // sums two integers; overflow wraps around as the language says. ",
	} {
		if opt.Prompts[i], err = e.Encode(strings.Repeat(text, 4), tokenizer.EncodeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		t.Run(layout.String(), func(t *testing.T) {
			enginetest.Conformance(t, func(t *testing.T) engine.Engine {
				// Pages of 16 tokens of 23 KB: the ring holds two, and a little.
				slab, err := NewSlab(16 << 20)
				if err != nil {
					t.Fatal(err)
				}
				s, err := Start(Options{Process: children(t, childReal), Slab: slab, Ring: 1 << 20, Engine: llama.Options{
					Lib: lib, Model: model, Draft: model, Layout: layout, Slots: 18, SlotTokens: 256, PassTokens: 128, PageTokens: 16,
				}})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Unpaged(); err != nil {
					t.Fatal(err)
				}
				return s
			}, opt)
		})
	}
}
