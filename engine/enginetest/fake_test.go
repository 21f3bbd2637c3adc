package enginetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"llamero/engine"
)

func TestFakeConforms(t *testing.T) {
	for name, change := range map[string]func(*engine.Limits){
		"split":               func(l *engine.Limits) { l.Layout = engine.Split },
		"split, not trimmed":  func(l *engine.Limits) { l.Layout, l.Trims = engine.Split, false },
		"unified":             func(l *engine.Limits) { l.Layout, l.Scratch = engine.Unified, 1 },
		"unified, small pool": func(l *engine.Limits) { l.Layout, l.Scratch, l.PoolTokens = engine.Unified, 1, 700 },
		"split, drafts":       func(l *engine.Limits) { l.Draft = 8 },
		"unified, drafts":     func(l *engine.Limits) { l.Layout, l.Scratch, l.Draft = engine.Unified, 1, 8 },
	} {
		t.Run(name, func(t *testing.T) {
			l := DefaultLimits(engine.Split)
			l.Slots, l.Scratch = 18, 2
			l.PoolTokens = l.Slots * l.SlotTokens
			change(&l)
			Conformance(t, func(*testing.T) engine.Engine { return NewFake(l) }, Options{DraftsItself: true})
		})
	}
}

// TestFakeReference: driving the fake token by token gives what Reference says.
func TestFakeReference(t *testing.T) {
	f := NewFake(DefaultLimits(engine.Split))
	f.EOG, f.EOGEvery = 7, 10
	prompt := []engine.Token{1, 2, 3}
	for seed, p := range []engine.Sampling{{}, {Temperature: 1, Seed: 4}, {Temperature: 1, Seed: 4, Choice: 1}} {
		want := f.Reference(prompt, p, 30, 7)
		plan := engine.Plan{Edits: []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditOpen, Sampling: p}}}
		next := prompt
		var got []engine.Token
		for pos := 0; len(got) < 30; {
			plan.Passes = []engine.Pass{{Rows: []engine.Row{sampling(0, pos, next)}}}
			var drawn engine.Token
			if err := f.Step(context.Background(), plan, func(o engine.Output) { drawn = o.Rows[0].Sampled[0].Token }); err != nil {
				t.Fatal(err)
			}
			if drawn == 7 {
				break
			}
			pos += len(next)
			got, next, plan = append(got, drawn), []engine.Token{drawn}, engine.Plan{}
		}
		if !slices.Equal(got, want) {
			t.Errorf("settings %d: drawn %v, reference %v", seed, got, want)
		}
	}
}

// TestFakeTells: after an injected failure a slot that is not dropped first shows.
func TestFakeTells(t *testing.T) {
	prompt, next := []engine.Token{1, 2, 3}, []engine.Token{4}
	p := engine.Sampling{}
	broken := errors.New("broken")
	f := NewFake(DefaultLimits(engine.Split))
	want := f.Reference([]engine.Token{1, 2, 3, 4}, p, 1)[0]
	run := func(plan engine.Plan) (got engine.Token, err error) {
		err = f.Step(context.Background(), plan, func(o engine.Output) { got = o.Rows[0].Sampled[0].Token })
		return got, err
	}
	whole := engine.Plan{
		Edits:  []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditOpen}},
		Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, 0, prompt)}}, {Rows: []engine.Row{sampling(0, 3, next)}}},
	}
	if got, err := run(whole); err != nil || got != want {
		t.Fatalf("token %d, %v; want %d", got, err, want)
	}
	f.Fail = func(uint64, int) error { return broken }
	if _, err := run(whole); !errors.Is(err, broken) {
		t.Fatalf("%v, want %v", err, broken)
	}
	f.Fail = nil
	if got, err := run(engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, 4, next)}}}}); err == nil && got == f.Reference([]engine.Token{1, 2, 3, 4, 4}, p, 1)[0] {
		t.Error("a slot survived a crash")
	}
	if got, err := run(whole); err != nil || got != want {
		t.Errorf("after a drop: token %d, %v; want %d", got, err, want)
	}
}

// TestFakeTears: a failure in the middle of a save leaves half a page, which shows when
// it is restored; an engine that comes back is empty and has its pages.
func TestFakeTears(t *testing.T) {
	f := NewFake(DefaultLimits(engine.Split))
	pt := f.Limits().PageTokens
	text := make([]engine.Token, pt)
	for i := range text {
		text[i] = engine.Token(100 + i)
	}
	run := func(plan engine.Plan) (drawn engine.Token, err error) {
		err = f.Step(context.Background(), plan, func(o engine.Output) {
			if len(o.Rows) > 0 && len(o.Rows[0].Sampled) > 0 {
				drawn = o.Rows[0].Sampled[0].Token
			}
		})
		return drawn, err
	}
	compute := engine.Plan{Edits: []engine.Edit{{Kind: engine.EditOpen}}, Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, 0, text)}}}}
	save := engine.Plan{Edits: []engine.Edit{
		{Kind: engine.EditSave, Pages: []int32{3}},
		{Kind: engine.EditSave, Pages: []int32{4}},
	}}
	restore := func(page int32) engine.Token {
		t.Helper()
		got, err := run(engine.Plan{
			Edits:  []engine.Edit{{Kind: engine.EditOpen}, {Kind: engine.EditRestore, Tokens: text, Pages: []int32{page}}},
			Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, pt, []engine.Token{5})}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if _, err := run(compute); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	f.FailEdit = func(_ uint64, edit int) error {
		if edit == 1 {
			return broken
		}
		return nil
	}
	if _, err := run(save); !errors.Is(err, broken) {
		t.Fatalf("%v, want %v", err, broken)
	}
	f.FailEdit = nil
	if _, err := run(engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{sampling(0, pt, []engine.Token{5})}}}}); err == nil {
		t.Error("a slot survived a crash")
	}
	want := f.Reference(append(slices.Clone(text), 5), engine.Sampling{}, 1)[0]
	for page, whole := range map[int32]bool{3: true, 4: false} {
		f.Restart()
		if got := restore(page); (got == want) != whole {
			t.Errorf("page %d: token %d, want %d: %v", page, got, want, whole)
		}
	}
	page := make([]byte, f.Limits().PageBytes)
	f.WritePage(page, text)
	l := f.Limits()
	if !slices.Equal(page, l.Page(f.Memory, 3)) {
		t.Error("a page differs from the one that was saved")
	}
}
