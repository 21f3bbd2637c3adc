package llama

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// A page holds the rows of its tokens, first the model's, then the draft model's, and
// behind these a mark that says whether the draft model had read so far.

const draftMark = 8 // bytes, so that pages stay aligned; the first is the mark

// setPages prepares paging. The error says why this model is served without.
func (e *Engine) setPages(slab []byte, pageTokens int) error {
	if err := pageable(e.model); err != nil {
		return err
	}
	if pageTokens < 1 || pageTokens > e.limits.SlotTokens/2 {
		return fmt.Errorf("pages of %d tokens; slots hold %d", pageTokens, e.limits.SlotTokens)
	}
	other := int32(e.limits.Slots - 1) // another slot than the first, where there is one
	if err := e.learnForm(pageTokens, other); err != nil {
		return err
	}
	pageBytes := pageTokens * e.form.row
	if d := e.draft; d != nil && pageable(d.model) == nil && d.learnForm(pageTokens, other) == nil {
		d.page = pageBytes
		pageBytes += pageTokens*d.form.row + draftMark
	}
	pages := len(slab) / pageBytes
	if pages < 2 {
		return fmt.Errorf("%d MiB of memory hold %d pages of %d KiB", len(slab)>>20, pages, pageBytes>>10)
	}
	e.limits.PageTokens, e.limits.PageBytes, e.limits.Pages = pageTokens, pageBytes, pages
	e.slab = slab[:pages*pageBytes]
	e.state = make([]byte, min(e.form.size(e.limits.SlotTokens), readyBytes))
	clear(e.state)
	return nil
}

// readyBytes is how much memory for states is taken from the system while the model
// loads, or a slot's whole state: the first prompt that is restored or saved would wait
// for it, where memory is new to a virtual machine 52 of the 65 ms that 820 tokens took.
const readyBytes = 64 << 20

// pageable says why a model's memory cannot be cut into pages.
func pageable(m llama.Model) error {
	if llama.ModelIsRecurrent(m) || llama.ModelIsHybrid(m) {
		return errors.New("recurrent layers keep no state by token")
	}
	if llama.ModelNSWA(m) > 0 {
		return errors.New("its sliding window drops what a page would need")
	}
	return nil
}

// page is a host page's memory.
func (e *Engine) page(i int32) []byte { return e.limits.Page(e.slab, i) }

// save copies pages of a slot out.
func (e *Engine) save(x engine.Edit) error {
	v, err := e.view(x.Slot, len(e.ledger.Slot(x.Slot).Tokens))
	if err != nil {
		return err
	}
	for i, p := range x.Pages {
		if p >= 0 {
			v.cut(e.page(p), (int(x.First)+i)*e.limits.PageTokens, e.limits.PageTokens)
		}
	}
	if e.draft != nil {
		e.draft.save(x, e.limits.PageTokens, e.page)
	}
	return nil
}

// restore fills an empty slot.
func (e *Engine) restore(slot int32, pages []int32) error {
	if err := e.sequences.restore(slot, pages, e.limits.PageTokens, e.page); err != nil {
		return err
	}
	if e.draft != nil {
		e.draft.restore(slot, pages, e.limits.PageTokens, e.page)
	}
	return nil
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
	if d := e.draft; d != nil && d.form != nil {
		h.Write([]byte("draft"))
		for i := range d.form.parts {
			h.Write(d.form.parts[i].head)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
