package scheduler

import (
	"errors"
	"fmt"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// FuzzScheduler reads bytes as limits and then operations. After each the
// invariants hold; at the end every answer has ended once, with the right tokens,
// and slots are empty.
func FuzzScheduler(f *testing.F) {
	f.Add([]byte{0, 3, 1, 60, 40, 0, 10, 5, 1, 0, 0, 30, 9, 2, 3, 3, 3, 3})
	f.Add([]byte{1, 7, 0, 90, 20, 0, 80, 40, 3, 0, 90, 39, 1, 3, 3, 4, 3, 5, 3, 1, 0, 3, 3})
	f.Add([]byte{3, 12, 9, 30, 0, 0, 1, 0, 6, 0, 70, 1, 0, 3, 4, 4, 4, 4, 3, 2, 1, 1, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b)
		}
		flags := next()
		l := enginetest.DefaultLimits(engine.Split)
		l.Slots, l.Scratch, l.SlotTokens = 1+next()%12, next()%4, 8+next()
		l.PassTokens = l.Slots + l.Scratch + next()
		l.PassOutputs = l.Slots + l.Scratch
		l.PoolTokens, l.Trims = l.Slots*l.SlotTokens, flags&2 == 0
		if flags&1 != 0 {
			l.Layout, l.Scratch = engine.Unified, 1
			l.PoolTokens = l.SlotTokens + next()*4
		}
		l.PageTokens, l.Pages = 1+flags>>4, flags>>2&3*8
		w := newWorld(t, Config{Limits: l, Queue: 8, Follow: 1 + flags>>4*2, TargetITL: int64(1+next()) * 1e6})
		w.f.EOG, w.f.EOGEvery = 7, 15
		fault := -2 // the pass that fails next
		w.f.Fail = func(_ uint64, pass int) error {
			if pass == fault {
				fault = -2
				return errors.New("injected")
			}
			return nil
		}
		var all []Request
		faults := 0
		for len(data) > 0 && w.steps < 2000 {
			switch next() % 8 {
			case 0, 1, 2:
				r := Request{
					ID: ID(len(all) + 1), Prompt: prompt(uint64(len(all)), next()), MaxTokens: next() - 1,
					Choices: next() % 5, Stop: []engine.Token{7},
				}
				options := next()
				r.Tenant = fmt.Sprint(options % 3)
				r.Priority = options / 3 % 3
				r.PromptScores = options&64 != 0
				if options&32 != 0 {
					r.Deadline = w.now + Tick(next())*1e6
				}
				if options&16 != 0 {
					r.Sampling = engine.Sampling{Temperature: 1, Seed: uint64(options)}
				}
				r.Paged = options&8 != 0 // prompts begin alike where their seed does
				if r.Paged {
					r.Prompt = prompt(uint64(options%2), len(r.Prompt))
				}
				want := Fits(r, l)
				err := w.submit(r)
				if want != nil && (err == nil || err.Error() != want.Error()) || want == nil && err != nil && !errors.Is(err, ErrQueueFull) {
					t.Fatalf("Fits says %v, Add %v", want, err)
				}
				if err == nil {
					all = append(all, r)
				}
			case 3:
				for range 1 + next()%16 {
					w.step()
				}
			case 4:
				fault = next()%3 - 1
				faults++
			case 5:
				w.take(w.s.Cancel(ID(next()), w.now))
			case 6:
				w.take(w.s.CancelChoice(ID(next()), next()%5, w.now))
			case 7:
				w.now += Tick(next()) * 1e6
			}
			w.check()
		}
		w.run()
		if used := w.s.Stats().TokensInUse; used != 0 || len(w.s.requests) != 0 || len(w.s.waiting) != 0 {
			t.Fatalf("%d tokens, %d requests and %d waiting answers are left", used, len(w.s.requests), len(w.s.waiting))
		}
		for _, r := range all {
			for c, finish := range w.done[r.ID] {
				if finish == FinishError {
					if faults < 3 {
						t.Errorf("request %d, choice %d failed after %d faults", r.ID, c, faults)
					}
					return
				}
			}
			if r.MaxTokens >= 0 {
				w.expect(r)
			}
		}
	})
}
