package scheduler

import "testing"

// TestAllGoOnAtOnce: when the engine has died, one step reads everybody to the end, if
// that takes at most a few times the target: who went on before the others would only
// hold them up. So do fewer passes than there may be in a step, whoever begins them.
func TestAllGoOnAtOnce(t *testing.T) {
	const slots = 32
	for name, c := range map[string]struct {
		target int64
		want   int // sequences that go on in the first step
	}{
		"it takes twice the target":  {target: 450e6, want: slots},
		"it takes ten times as long": {target: 90e6, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := splitLimits(slots, 128)
			l.Pages = 0
			w := newWorld(t, Config{Limits: l, TargetITL: c.target})
			w.s.costs.chunkBase, w.s.costs.chunkToken, w.s.costs.chunkDepth = 5e6, 1e6, 0
			for i := range slots {
				w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), 30-i/4), MaxTokens: 20})
			}
			w.until("all answer", func() bool { return w.s.Stats().Decoding == slots })
			dead := w.kill()
			w.step()
			if n := w.s.Stats().Running; n != 0 || !*dead {
				t.Fatalf("%d run when the engine has died", n)
			}
			w.step()
			n := w.s.Stats().Decoding
			if c.want > 0 && n != c.want || c.want == 0 && n > slots/4 {
				t.Errorf("%d of %d go on after a step", n, slots)
			}
			w.run()
		})
	}
}
