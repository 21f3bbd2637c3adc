package scheduler

import (
	"testing"

	"llamero/cache"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// TestCheckpoint: what prompts and answers have computed outlasts the engine, but for the
// last of it, and the saving of it costs little beside the computing.
func TestCheckpoint(t *testing.T) {
	for name, c := range map[string]struct {
		streams, prompt, answer int
		saves                   int // most a stream
		lost                    int // most that a stream has computed and is not there
	}{
		"short": {streams: 8, prompt: 30, answer: 60, saves: 90 / 16, lost: 16 + 15},
		"long":  {streams: 1, prompt: 300, answer: 900, saves: 900 / 48, lost: 1200 / 8},
	} {
		for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
			t.Run(name+"/"+layout.String(), func(t *testing.T) {
				l := enginetest.DefaultLimits(layout)
				l.SlotTokens, l.PageTokens, l.Pages, l.TokenBytes = 1400, 16, 400, 23_000
				l.PoolTokens = l.Slots * l.SlotTokens
				w := newWorld(t, Config{Limits: l, Insure: true})
				saves, restored := 0, map[int32]int{}
				w.onPlan = func(p engine.Plan) {
					for _, e := range p.Edits {
						switch e.Kind {
						case engine.EditSave:
							saves++
						case engine.EditRestore:
							restored[e.Slot] = len(e.Tokens)
						}
					}
				}
				var all []Request
				for i := range c.streams {
					all = append(all, Request{ID: ID(i + 1), Prompt: prompt(uint64(i), c.prompt), MaxTokens: c.answer, Paged: true, Root: cache.Root("test")})
					w.add(all[i])
				}
				w.until("the answers are nearly done", func() bool { return len(w.got[1][0]) >= c.answer-2 })
				if saves > c.saves*c.streams {
					t.Errorf("%d saves of %d streams", saves, c.streams)
				}
				had := map[int32]int{}
				for i, q := range w.s.slots {
					if q != nil {
						had[int32(i)] = q.computed
					}
				}
				dead := w.kill()
				w.run()
				if !*dead || len(had) != c.streams {
					t.Fatalf("%d streams when the engine was to die (%v)", len(had), *dead)
				}
				for slot, tokens := range had {
					if lost := tokens - restored[slot]; lost > c.lost {
						t.Errorf("slot %d: %d of %d tokens are lost", slot, lost, tokens)
					}
				}
				for _, q := range all {
					w.expect(q)
				}
			})
		}
	}
}
