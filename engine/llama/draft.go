package llama

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// maxDraft is how many tokens a row may have drafted.
const maxDraft = 15

// draft is a small model that guesses what the engine's own will say. It is asked with
// the sequence's own settings and random numbers, so that what it draws is what the
// model would, as far as the two agree.
//
// It reads a slot's text only when it is asked about it, and follows the slot from then
// on: its sequences are tagged where the model's are moved or forked, and cut where they
// are. It has one pool of cells, in which rows of any width make one batch. Nothing
// depends on what it holds but speed: where it fails it forgets all, and reads again.
type draft struct {
	sequences
	model      llama.Model
	tokenBytes int
	read       []int32 // tokens of each slot's text that it holds
	page       int     // where in a host page its rows begin

	rows  []drafting
	drawn []*drafting // those of rows that a token is drawn of
}

// drafting is a row that is drafted for.
type drafting struct {
	row      int   // of the pass
	slot     int32 // and its slot
	want     int   // tokens
	text     []engine.Token
	known    int // tokens of text; what follows is drafted
	prompt   int
	sampling engine.Sampling
	index    int32     // in the batch, of what its next token is drawn from; -1: nothing is
	logits   []float32 // and these
}

// loadDraft loads a draft model and says whether it can be one for a model.
func loadDraft(path string, params llama.ModelParams, of llama.Model, typeK, typeV llama.GGMLType) (*draft, error) {
	model, err := loadModel(path, params)
	if err != nil {
		return nil, fmt.Errorf("draft %w (--draft-model)", err)
	}
	d := &draft{model: model}
	if err := drafts(model, of); err != nil {
		d.close()
		return nil, fmt.Errorf("draft model: %s cannot draft for this model: %w (--draft-model)", path, err)
	}
	d.tokenBytes = tokenBytes(model, typeK, typeV)
	return d, nil
}

// drafts says why a model cannot draft for another.
func drafts(m, of llama.Model) error {
	switch {
	case !llama.ModelHasDecoder(m) || llama.ModelHasEncoder(m) || llama.ModelIsDiffusion(m):
		return errors.New("it does not generate text token by token")
	case llama.ModelIsRecurrent(m) || llama.ModelIsHybrid(m):
		return errors.New("it has recurrent layers, which cannot take back a guess that was wrong")
	case llama.ModelIsRecurrent(of) || llama.ModelIsHybrid(of):
		return errors.New("that one has recurrent layers, which cannot take back a guess that was wrong")
	}
	a, b := llama.ModelGetVocab(m), llama.ModelGetVocab(of)
	n := llama.VocabNTokens(a)
	if want := llama.VocabNTokens(b); n != want {
		return fmt.Errorf("it has a vocabulary of %d tokens, not of %d", n, want)
	}
	// A vocabulary that differs does so in more than a few tokens.
	const step = 7
	for t := llama.Token(0); t < llama.Token(n); t += step {
		if x, y := llama.VocabGetText(a, t), llama.VocabGetText(b, t); x != y {
			return fmt.Errorf("its token %d is %q, not %q", t, x, y)
		}
	}
	return nil
}

// open allocates the KV cache: as many tokens as the model's pool holds.
func (d *draft) open(l engine.Limits, t threads, typeK, typeV llama.GGMLType) error {
	n := l.Slots + 1 // in one pool, one more than are used: see Limits.Scratch
	p := contextParams(n, l.PassTokens, n, t.n)
	p.KVUnified = 1
	p.NCtx = uint32(l.PoolTokens + 64)
	p.TypeK, p.TypeV = typeK, typeV
	if err := d.init(d.model, p, t); err != nil {
		return fmt.Errorf("engine: no context of %d tokens for the draft model (%d MiB of KV): %w", p.NCtx, int64(p.NCtx)*int64(d.tokenBytes)>>20, err)
	}
	d.read = make([]int32, l.Slots)
	return d.warm(d.model)
}

func (d *draft) close() {
	d.free()
	if d.model != 0 {
		llama.ModelFree(d.model)
		d.model = 0
	}
}

// propose returns the pass with guesses in place of what its rows want drafted, and
// what was drafted, by row. A row whose text is still being read is filled up.
func (d *draft) propose(p *engine.Pass, ledger *engine.Ledger, pool *engine.Pool) (*engine.Pass, [][]engine.Token, error) {
	d.begin(p, ledger)
	if err := d.run(pool); err != nil {
		return nil, nil, err
	}
	drafted := make([][]engine.Token, len(p.Rows))
	out := &engine.Pass{Kind: p.Kind, Rows: slices.Clone(p.Rows)}
	for i := range d.rows {
		x := &d.rows[i]
		r := &out.Rows[x.row]
		r.Guess, r.Draft = slices.Clone(x.text[x.known:]), 0
		if len(r.Guess) > 0 {
			drafted[x.row] = r.Guess
			continue
		}
		for range x.want {
			r.Guess = append(r.Guess, x.text[x.known-1])
		}
	}
	return out, drafted, nil
}

// begin notes the rows that are to be drafted for, those with least to read first: a
// long text must not keep the others waiting.
func (d *draft) begin(p *engine.Pass, ledger *engine.Ledger) {
	n := 0
	for i := range p.Rows {
		r := &p.Rows[i]
		if r.Draft == 0 {
			continue
		}
		if n == len(d.rows) {
			d.rows = append(d.rows, drafting{})
		}
		x, s := &d.rows[n], ledger.Slot(r.Slot)
		n++
		text := append(append(x.text[:0], s.Tokens...), r.Tokens...)
		*x = drafting{row: i, slot: r.Slot, want: int(r.Draft), text: text, known: len(text), prompt: s.Prompt, sampling: s.Sampling}
		x.sampling.LogProbs = 0
	}
	d.rows = d.rows[:n]
	slices.SortStableFunc(d.rows, func(x, y drafting) int { return cmp.Compare(d.unread(&x), d.unread(&y)) })
}

// unread is how many tokens of a row's text are to be read.
func (d *draft) unread(x *drafting) int { return len(x.text) - int(d.read[x.slot]) }

// run drafts: for all rows that have been read at once, a token of each at a time. A
// row has all that it wants in the end, or nothing.
func (d *draft) run(pool *engine.Pool) error {
	for begun := false; ; begun = true {
		d.batch.Clear()
		used, drawing := 0, 0
		for i := range d.rows {
			x := &d.rows[i]
			if begun && x.index < 0 || len(x.text)-x.known == x.want {
				x.index = -1
				continue
			}
			x.index = -1
			n := min(d.unread(x), d.most-used)
			for at := int(d.read[x.slot]); at < int(d.read[x.slot])+n; at++ {
				last := at == len(x.text)-1
				if last {
					x.index = d.batch.NTokens
					drawing++
				}
				if err := d.add(x.slot, at, x.text[at], last); err != nil {
					return err
				}
			}
			used += n
			d.read[x.slot] += int32(n)
		}
		if used == 0 {
			return nil
		}
		code, err := d.decode()
		if err != nil {
			return err
		}
		if code != 0 {
			d.clear(fmt.Errorf("decode: code %d: %s", code, logs.takeError()))
			for i := range d.rows {
				d.rows[i].text = d.rows[i].text[:d.rows[i].known]
			}
			return nil
		}
		if drawing == 0 {
			return nil
		}
		if err := d.draw(pool); err != nil {
			return err
		}
	}
}

// draw draws the next token of each row that has logits.
func (d *draft) draw(pool *engine.Pool) error {
	d.drawn = d.drawn[:0]
	for i := range d.rows {
		if x := &d.rows[i]; x.index >= 0 {
			logits, err := d.row(x.index)
			if err != nil {
				return err
			}
			x.logits = logits
			d.drawn = append(d.drawn, x)
		}
	}
	pool.Each(len(d.drawn), func(s *engine.Sampler, i int) {
		x := d.drawn[i]
		x.text = append(x.text, s.Sample(x.logits, &x.sampling, x.text, x.prompt).Token)
	})
	return nil
}

// edit follows an edit that has been done; restores and saves see to it themselves.
func (d *draft) edit(x engine.Edit) {
	switch x.Kind {
	case engine.EditTrim:
		d.cut(x.Slot, x.Len)
	case engine.EditDrop:
		d.cut(x.Slot, 0)
	case engine.EditMove:
		d.follow(x.Slot, x.To, d.read[x.Slot])
		d.cut(x.Slot, 0)
	case engine.EditFork:
		d.follow(x.Slot, x.To, x.Len)
	}
}

// cut forgets what is behind a slot's first n tokens.
func (d *draft) cut(slot, n int32) {
	if d.read[slot] <= n {
		return
	}
	d.read[slot] = n
	if err := d.trim(slot, n); err != nil {
		d.clear(err)
	}
}

// follow gives an empty slot the first n tokens of another, as far as they are there.
func (d *draft) follow(from, to, n int32) {
	if n = min(n, d.read[from]); n == 0 {
		return
	}
	if err := d.tag(from, to, n, d.read[from]); err != nil {
		d.clear(err)
		return
	}
	d.read[to] = n
}

// save marks pages and copies to those that the draft model has read.
func (d *draft) save(x engine.Edit, pageTokens int, page func(int32) []byte) {
	if d.form == nil {
		return
	}
	var v stateView
	for i, p := range x.Pages {
		if p < 0 {
			continue
		}
		mem, first := page(p), (int(x.First)+i)*pageTokens
		mark := mem[len(mem)-draftMark:]
		clear(mark)
		n := int(d.read[x.Slot])
		if first+pageTokens > n {
			continue
		}
		if v.form == nil {
			var err error
			if v, err = d.view(x.Slot, n); err != nil {
				d.clear(err)
				continue // and so are the pages behind it: it has read nothing now
			}
		}
		v.cut(mem[d.page:], first, pageTokens)
		mark[0] = 1
	}
}

// restore fills an empty slot with what the first of its pages hold for it.
func (d *draft) restore(slot int32, pages []int32, pageTokens int, page func(int32) []byte) {
	if d.form == nil {
		return
	}
	n := 0
	for n < len(pages) && page(pages[n])[d.page+pageTokens*d.form.row] == 1 {
		n++
	}
	if n == 0 {
		return
	}
	if err := d.sequences.restore(slot, pages[:n], pageTokens, func(i int32) []byte { return page(i)[d.page:] }); err != nil {
		d.clear(err)
		return
	}
	d.read[slot] = int32(n * pageTokens)
}

// clear forgets everything: nothing is known of it any more.
func (d *draft) clear(why error) {
	slog.Debug("the draft model begins anew", "reason", why)
	_ = llama.MemoryClear(d.mem, false)
	clear(d.read)
	d.forget()
}
