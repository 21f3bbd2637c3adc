package llama

import (
	"testing"

	"llamero/engine"
)

// TestIdleRowsHaveOutputs: the output layer, a fifth of a small model, is computed in the
// width that a decode pass was rounded up to, and a calibration, whose rows are all idle,
// sees what it costs.
func TestIdleRowsHaveOutputs(t *testing.T) {
	lib, model := files(t)
	e, err := Open(Options{Lib: lib, Model: model, Slots: 4, SlotTokens: 256, Layout: engine.Split})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := driver{t: t, e: e}
	d.open(0, 1)
	rows := []engine.Row{{Tokens: []engine.Token{1}, Sample: true}}
	for slot := range int32(3) {
		rows = append(rows, engine.Row{Slot: slot + 1, Tokens: []engine.Token{2}, Idle: true})
	}
	d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: rows}}})
	for i := range rows {
		if _, err := e.row(int32(i)); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}
