package llama

import (
	"testing"

	"llamero/engine"
)

// TestShowTails prints what the ends of prompts cost whose beginning is known: one
// slot's at a time, and several in a pass.
func TestShowTails(t *testing.T) {
	if !show {
		t.Skip("a measurement: LLAMERO_SHOW=1 runs it")
	}
	lib, model := files(t)
	const depth, slots = 736, 16
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		e, err := Open(Options{Lib: lib, Model: model, Slots: slots, SlotTokens: 2048, Layout: layout, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		d := driver{t: t, e: e}
		ids := make([]engine.Token, depth)
		for i := range ids {
			ids[i] = engine.Token(1000 + i*7919%40000)
		}
		d.open(0, depth)
		for at := 0; at < depth; at += 368 {
			d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Pos: int32(at), Tokens: ids[at : at+368]}}}}})
		}
		for slot := 1; slot < slots; slot++ {
			d.open(slot, depth)
			d.edit(engine.Edit{Kind: engine.EditFork, Slot: 0, To: int32(slot), Len: depth})
		}
		for _, n := range []int{16, 32, 48, 54, 63, 64, 96} {
			for _, k := range []int{1, 2, 4, 8, 16} {
				if k*n > e.limits.PassTokens {
					continue
				}
				var least int64
				for range 4 {
					p := engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill}}}
					var trims []engine.Edit
					for slot := range k {
						p.Passes[0].Rows = append(p.Passes[0].Rows, engine.Row{Slot: int32(slot), Pos: depth, Tokens: ids[slot : slot+n]})
						trims = append(trims, engine.Edit{Kind: engine.EditTrim, Slot: int32(slot), Len: depth})
					}
					if took := d.step(p).Nanos; least == 0 || took < least {
						least = took
					}
					d.step(engine.Plan{Edits: trims})
				}
				ms := float64(least) / 1e6
				t.Logf("%s: %2d tails of %3d at depth %d: %6.1f ms, %5.1f a tail, %.2f a token", layout, k, n, depth, ms, ms/float64(k), ms/float64(k*n))
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
