package llama

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// setPages prepares paging: it learns the form of a sequence's state, and finds out
// by an experiment whether pages bring a sequence back bit for bit. The error says
// why this model is served without.
func (e *Engine) setPages(slab []byte, pageTokens int) error {
	if llama.ModelIsRecurrent(e.model) || llama.ModelIsHybrid(e.model) {
		return errors.New("recurrent layers keep no state by token")
	}
	if llama.ModelNSWA(e.model) > 0 {
		return errors.New("its sliding window drops what a page would need")
	}
	if pageTokens < 1 || pageTokens > e.limits.SlotTokens/2 {
		return fmt.Errorf("pages of %d tokens; slots hold %d", pageTokens, e.limits.SlotTokens)
	}
	n := 2*pageTokens + 1 // two pages, and a token to see what they are worth
	tokens := make([]engine.Token, n)
	for i := range tokens {
		tokens[i] = engine.Token((i*7919 + 11) % e.limits.Vocab)
	}
	state, logits, err := e.try(0, 0, tokens)
	if err != nil {
		return err
	}
	if e.form, err = readForm(state, n-1); err != nil {
		return err
	}
	pageBytes := pageTokens * e.form.row
	pages := len(slab) / pageBytes
	if pages < 2 {
		return fmt.Errorf("%d MiB of memory hold %d pages of %d KiB", len(slab)>>20, pages, pageBytes>>10)
	}
	e.slab = make([]byte, 2*pageBytes) // the experiment's own: the slab may hold pages already
	e.limits.PageTokens, e.limits.PageBytes, e.limits.Pages = pageTokens, pageBytes, pages
	if err := e.proof(tokens, state, logits); err != nil {
		e.limits.PageTokens, e.limits.PageBytes, e.limits.Pages = 0, 0, 0
		return err
	}
	e.slab, e.assembled = slab[:pages*pageBytes], nil
	e.state = make([]byte, min(e.form.size(e.limits.SlotTokens), readyBytes))
	clear(e.state)
	return nil
}

// readyBytes is how much memory for states is taken from the system while the model
// loads, or a slot's whole state: the first prompt that is restored or saved would wait
// for it, where memory is new to a virtual machine 52 of the 65 ms that 820 tokens took.
const readyBytes = 64 << 20

// try computes all tokens but the last in a slot, from position pos on, and returns
// the slot's state then, and the logits after the last.
func (e *Engine) try(slot, pos int32, tokens []engine.Token) (state []byte, logits []float32, err error) {
	run := func(tokens []engine.Token, at int32, sample bool) error {
		p := engine.Pass{Kind: engine.PassPrefill, Rows: []engine.Row{{Slot: slot, Pos: at, Tokens: tokens, Sample: sample}}}
		if err := e.fill(&p); err != nil {
			return err
		}
		if code, err := llama.Decode(e.ctx, e.batch); err != nil || code != 0 {
			return fmt.Errorf("decode: code %d, %v", code, err)
		}
		llama.Synchronize(e.ctx)
		return nil
	}
	last := len(tokens) - 1
	for at := 0; at < last; at += e.limits.PassTokens {
		if err := run(tokens[at:min(at+e.limits.PassTokens, last)], pos+int32(at), false); err != nil {
			return nil, nil, err
		}
	}
	if state, err = e.read(slot); err != nil {
		return nil, nil, err
	}
	state = slices.Clone(state)
	if err := run(tokens[last:], pos+int32(last), true); err != nil {
		return nil, nil, err
	}
	row, err := llama.GetLogitsIth(e.ctx, 0, e.limits.Vocab)
	if err != nil || row == nil {
		return nil, nil, errors.New("no logits")
	}
	logits = slices.Clone(row)
	return state, logits, e.trim(slot, 0)
}

// proof saves, restores and compares: the last token must yield the same logits,
// and must not after other pages.
func (e *Engine) proof(tokens []engine.Token, state []byte, logits []float32) error {
	n := len(tokens) - 1
	v, err := e.form.view(state, n)
	if err != nil {
		return err
	}
	for page := range 2 {
		v.cut(e.page(int32(page)), page*e.limits.PageTokens, e.limits.PageTokens)
	}
	again := func(pages ...int32) (same bool, err error) {
		slot := int32(e.limits.Slots - 1) // another one, where there is one
		if err := e.restore(slot, pages); err != nil {
			return false, err
		}
		_, got, err := e.try(slot, int32(n), tokens[n:])
		return slices.Equal(got, logits), err
	}
	switch same, err := again(0, 1); {
	case err != nil:
		return err
	case !same:
		return errors.New("restored pages give other logits")
	}
	// Not the same pages in another order: attention takes a sum over them, and what is
	// left of the difference is rounding, which some types swallow.
	switch same, err := again(0, 0); {
	case err != nil:
		return err
	case same:
		return errors.New("logits do not depend on the pages")
	}
	return nil
}

// page is a host page's memory.
func (e *Engine) page(i int32) []byte { return e.limits.Page(e.slab, i) }

// read returns a slot's state, in memory that the next read or restore takes.
func (e *Engine) read(slot int32) ([]byte, error) {
	size := llama.StateSeqGetSize(e.ctx, llama.SeqId(slot))
	state := e.buffer(int(size))
	if got := llama.StateSeqGetData(e.ctx, state, llama.SeqId(slot)); got != size {
		return nil, fmt.Errorf("engine: slot %d gave %d of %d bytes of state", slot, got, size)
	}
	return state, nil
}

// write puts a state into an empty slot.
func (e *Engine) write(slot int32, state []byte) error {
	if got := llama.StateSeqSetData(e.ctx, state, llama.SeqId(slot)); got != uint64(len(state)) {
		return fmt.Errorf("engine: slot %d took %d of %d bytes of state", slot, got, len(state))
	}
	return nil
}

// buffer is memory for a state; what was there is gone.
func (e *Engine) buffer(size int) []byte {
	e.assembled, e.forked = nil, -1
	if size > cap(e.state) {
		e.state = make([]byte, size+size/4)
	}
	e.state = e.state[:size]
	return e.state
}

// save copies pages of a slot out.
func (e *Engine) save(x engine.Edit) error {
	n := len(e.ledger.Slot(x.Slot).Tokens)
	state, err := e.read(x.Slot)
	if err != nil {
		return err
	}
	v, err := e.form.view(state, n)
	if err != nil {
		return err
	}
	for i, p := range x.Pages {
		if p >= 0 {
			v.cut(e.page(p), (int(x.First)+i)*e.limits.PageTokens, e.limits.PageTokens)
		}
	}
	return nil
}

// restore fills an empty slot. Many slots in a row often want the same pages: these
// are put together once.
func (e *Engine) restore(slot int32, pages []int32) error {
	n := len(pages) * e.limits.PageTokens
	if e.assembled == nil || !slices.Equal(e.assembled, pages) {
		state := e.buffer(e.form.size(n))
		mem := make([][]byte, len(pages))
		for i, p := range pages {
			mem[i] = e.page(p)
		}
		e.form.assemble(state, mem, e.limits.PageTokens)
		e.assembled = slices.Clone(pages)
	}
	return e.write(slot, e.state[:e.form.size(n)])
}

// Form names how a page's bytes are laid out: layers, types, sizes of rows. It is
// "" without pages.
func (e *Engine) Form() string {
	if e.form == nil {
		return ""
	}
	h := sha256.New()
	for i := range e.form.parts {
		h.Write(e.form.parts[i].head)
	}
	return hex.EncodeToString(h.Sum(nil))
}
