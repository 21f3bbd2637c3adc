package llama

import (
	"bytes"
	"testing"

	"llamero/engine"
)

// Whatever the type of K and V, the experiment at start-up finds that pages bring a
// sequence back, and that it would see others.
func TestPagesOfEveryType(t *testing.T) {
	lib, model := files(t)
	types, layouts := []string{"bf16", "q4_0"}, []engine.Layout{engine.Split} // f16 is every other test's
	if show {
		types = []string{"f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"}
		layouts = append(layouts, engine.Unified)
	}
	for _, kv := range types {
		for _, layout := range layouts {
			e, err := Open(Options{Lib: lib, Model: model, Layout: layout, Slots: 2, SlotTokens: 256, TypeK: kv, TypeV: kv,
				PageTokens: 16, Slab: make([]byte, 8<<20)})
			if err != nil {
				t.Fatalf("%s, %v: %v", kv, layout, err)
			}
			if err := e.Unpaged(); err != nil {
				t.Errorf("%s, %v: %v", kv, layout, err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A page may get other bytes between steps without a save, as from another gateway:
// what the engine put together of it before must not be used again.
func TestPagesAreReadAnew(t *testing.T) {
	lib, model := files(t)
	slab := make([]byte, 64<<20)
	e, err := Open(Options{Lib: lib, Model: model, Slots: 4, SlotTokens: 512, Layout: engine.Split, Slab: slab})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := driver{t: t, e: e}
	n := e.limits.PageTokens
	texts := [2][]engine.Token{make([]engine.Token, n), make([]engine.Token, n)}
	for slot, text := range texts {
		for i := range text {
			text[i] = engine.Token(1000 + 5000*slot + 77*i)
		}
		d.open(slot, n)
		d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Slot: int32(slot), Tokens: text}}}}})
		d.edit(engine.Edit{Kind: engine.EditSave, Slot: int32(slot), Pages: []int32{int32(slot)}})
	}
	again := func(text []engine.Token) []byte {
		d.open(2, n)
		d.edit(engine.Edit{Kind: engine.EditRestore, Slot: 2, Tokens: text, Pages: []int32{0}})
		d.edit(engine.Edit{Kind: engine.EditSave, Slot: 2, Pages: []int32{2}})
		d.edit(engine.Edit{Kind: engine.EditRestore, Slot: 3, Tokens: text, Pages: []int32{0}}) // assembled last
		d.edit(engine.Edit{Kind: engine.EditDrop, Slot: 2})
		return bytes.Clone(e.limits.Page(slab, 2))
	}
	d.open(3, n)
	first := again(texts[0])
	d.edit(engine.Edit{Kind: engine.EditDrop, Slot: 3})
	copy(e.limits.Page(slab, 0), e.limits.Page(slab, 1))
	d.open(3, n)
	second := again(texts[1])
	if bytes.Equal(first, second) || !bytes.Equal(second, e.limits.Page(slab, 1)) {
		t.Error("a page that was overwritten was restored as it was before")
	}
}

// What the draft model had read comes back with the pages, and what it had not does not.
func TestPagesOfTheDraft(t *testing.T) {
	lib, model := files(t)
	e, err := Open(Options{Lib: lib, Model: model, Draft: model, Slots: 2, SlotTokens: 512, Layout: engine.Split, Slab: make([]byte, 64<<20)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := driver{t: t, e: e}
	pt := e.limits.PageTokens
	text := make([]engine.Token, 4*pt)
	for i := range text {
		text[i] = engine.Token(1000 + 77*i)
	}
	row := func(slot, pos int, tokens []engine.Token, draft int32) engine.RowOutput {
		out := d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: []engine.Row{
			{Slot: int32(slot), Pos: int32(pos), Tokens: tokens, Sample: true, Draft: draft},
		}}}})
		return out.Rows[0]
	}
	d.open(0, 2*pt)
	row(0, 0, text[:2*pt-1], 0)
	row(0, 2*pt-1, text[2*pt-1:2*pt], 1) // the draft model reads two pages
	d.edit(engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: int32(2 * pt)})
	if got := row(0, 2*pt, text[2*pt:], 0); int(got.Read) != 2*pt {
		t.Fatalf("the draft model has read %d tokens, not %d", got.Read, 2*pt)
	}
	pages := []int32{3, 1, 0, 2}
	d.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: pages})
	d.open(1, 4*pt)
	d.edit(engine.Edit{Kind: engine.EditRestore, Slot: 1, Tokens: text, Pages: pages})
	if got := row(1, 4*pt, text[:1], 0); int(got.Read) != 2*pt {
		t.Errorf("restored, the draft model has read %d tokens, not %d", got.Read, 2*pt)
	}
}
