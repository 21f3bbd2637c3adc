package llama

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// sequences are a context of the library: its sequences, which are the slots, and the
// batch that goes to them. An engine has one for its model, and one for the draft.
type sequences struct {
	ctx   llama.Context
	mem   llama.Memory
	batch llama.Batch
	seq   [1]llama.SeqId // of the token that is added
	most  int            // tokens of a batch
	vocab int

	form      *stateForm // of a sequence's state; nil: it is not cut into pages
	state     []byte     // of a sequence, on its way
	assembled []int32    // the pages that state was put together from; nil: it was not
	forked    int32      // the slot whose state it is, for more forks of it; -1: no slot's
}

// contextParams are what all contexts have in common.
func contextParams(sequences, batch, outputs, threads int) llama.ContextParams {
	p := llama.ContextDefaultParams()
	p.NSeqMax = uint32(sequences)
	p.NBatch, p.NUbatch = uint32(batch), uint32(batch)
	p.NOutputsMax = uint32(outputs)
	p.NThreads, p.NThreadsBatch = int32(threads), int32(threads)
	// V must not be transposed, or state could not be cut into tokens.
	p.FlashAttentionType = llama.FlashAttentionTypeEnabled
	p.NoPerf = 1
	return p
}

// init makes the context, which computes on threads that outlive it. Why it cannot be is
// the error's text.
func (q *sequences) init(model llama.Model, p llama.ContextParams, t threads) (err error) {
	logs.takeError()
	if q.ctx, err = llama.InitFromModel(model, p); err != nil {
		if why := logs.takeError(); why != "" {
			return errors.New(why)
		}
		return err
	}
	t.serve(q.ctx)
	q.most = int(p.NBatch)
	if got := int(llama.NUBatch(q.ctx)); got < q.most {
		return fmt.Errorf("the library computes %d tokens at once, not %d", got, q.most)
	}
	if q.mem, err = llama.GetMemory(q.ctx); err != nil {
		return err
	}
	if q.mem == 0 {
		return errors.New("the model has no KV memory")
	}
	q.vocab = int(llama.VocabNTokens(llama.ModelGetVocab(model)))
	q.batch = llama.BatchInit(int32(q.most), 0, 1)
	q.forked = -1
	return nil
}

// warm computes something, so that the first pass does not pay for what comes with it.
func (q *sequences) warm(model llama.Model) error {
	if err := llama.Warmup(q.ctx, model); err != nil {
		return fmt.Errorf("engine: warm-up: %w", err)
	}
	return nil
}

func (q *sequences) free() {
	if q.batch.Token != nil {
		llama.BatchFree(q.batch)
		q.batch = llama.Batch{}
	}
	if q.ctx != 0 {
		llama.Free(q.ctx)
		q.ctx = 0
	}
}

// add puts a token of a slot into the batch.
func (q *sequences) add(slot int32, pos int, t engine.Token, logits bool) error {
	q.seq[0] = llama.SeqId(slot)
	if err := q.batch.Add(llama.Token(t), llama.Pos(pos), q.seq[:], logits); err != nil {
		return fmt.Errorf("engine: batch: %w", err)
	}
	return nil
}

// decode computes the batch. A code that is not 0 is the library's refusal: what is in
// memory then must be looked at.
func (q *sequences) decode() (code int32, err error) {
	code, err = llama.Decode(q.ctx, q.batch)
	if err != nil {
		return code, fmt.Errorf("engine: decode: %w", err)
	}
	if code == 0 {
		llama.Synchronize(q.ctx)
	}
	return code, nil
}

// row is the logits of a token of the batch, good until the next one.
func (q *sequences) row(index int32) ([]float32, error) {
	row, err := llama.GetLogitsIth(q.ctx, index, q.vocab)
	if err != nil || row == nil {
		return nil, fmt.Errorf("engine: no logits for token %d of the batch", index)
	}
	return row, nil
}

// trim cuts a sequence to n tokens.
func (q *sequences) trim(slot, n int32) error {
	ok, err := llama.MemorySeqRm(q.mem, llama.SeqId(slot), llama.Pos(n), -1)
	if err != nil || !ok {
		return fmt.Errorf("engine: slot %d cannot be cut to %d tokens", slot, n)
	}
	return nil
}

// tag gives an empty sequence the first n of another's have tokens, in the same cells;
// in the unified layout only.
func (q *sequences) tag(from, to, n, have int32) error {
	end := llama.Pos(n)
	if n == have {
		end = -1
	}
	return llama.MemorySeqCp(q.mem, llama.SeqId(from), llama.SeqId(to), 0, end)
}

// read returns a slot's state, in memory that the next read or restore takes.
func (q *sequences) read(slot int32) ([]byte, error) {
	size := llama.StateSeqGetSize(q.ctx, llama.SeqId(slot))
	state := q.buffer(int(size))
	if got := llama.StateSeqGetData(q.ctx, state, llama.SeqId(slot)); got != size {
		return nil, fmt.Errorf("engine: slot %d gave %d of %d bytes of state", slot, got, size)
	}
	return state, nil
}

// view reads the state of a slot of n tokens.
func (q *sequences) view(slot int32, n int) (v stateView, err error) {
	state, err := q.read(slot)
	if err != nil {
		return v, err
	}
	return q.form.view(state, n)
}

// write puts a state into an empty slot.
func (q *sequences) write(slot int32, state []byte) error {
	if got := llama.StateSeqSetData(q.ctx, state, llama.SeqId(slot)); got != uint64(len(state)) {
		return fmt.Errorf("engine: slot %d took %d of %d bytes of state", slot, got, len(state))
	}
	return nil
}

// restore fills an empty slot from pages of so many tokens each, whose memory page
// returns. Many slots in a row often want the same pages: these are put together once.
func (q *sequences) restore(slot int32, pages []int32, tokens int, page func(int32) []byte) error {
	size := q.form.size(len(pages) * tokens)
	if q.assembled == nil || !slices.Equal(q.assembled, pages) {
		state := q.buffer(size)
		mem := make([][]byte, len(pages))
		for i, p := range pages {
			mem[i] = page(p)
		}
		q.form.assemble(state, mem, tokens)
		q.assembled = slices.Clone(pages)
	}
	return q.write(slot, q.state[:size])
}

// buffer is memory for a state; what was there is gone.
func (q *sequences) buffer(size int) []byte {
	q.forget()
	if size > cap(q.state) {
		q.state = make([]byte, size+size/4)
	}
	q.state = q.state[:size]
	return q.state
}

// forget takes the state that is at hand for nobody's.
func (q *sequences) forget() { q.assembled, q.forked = nil, -1 }

// learnForm learns the form of a sequence's state, and finds out by an experiment
// whether pages of so many tokens bring a sequence back bit for bit. slot is an empty
// slot to restore into.
func (q *sequences) learnForm(pageTokens int, slot int32) error {
	n := 2*pageTokens + 1 // two pages, and a token to see what they are worth
	tokens := make([]engine.Token, n)
	for i := range tokens {
		tokens[i] = engine.Token((i*7919 + 11) % q.vocab)
	}
	state, logits, err := q.try(0, 0, tokens)
	if err != nil {
		return err
	}
	form, err := readForm(state, n-1)
	if err != nil {
		return err
	}
	q.form = form
	if err := q.proof(slot, tokens, pageTokens, state, logits); err != nil {
		q.form = nil
		return err
	}
	return nil
}

// try computes all tokens but the last in a slot, from position pos on, and returns
// the slot's state then, and the logits after the last.
func (q *sequences) try(slot int32, pos int, tokens []engine.Token) (state []byte, logits []float32, err error) {
	run := func(tokens []engine.Token, at int, sample bool) error {
		q.batch.Clear()
		for i, t := range tokens {
			if err := q.add(slot, at+i, t, sample && i == len(tokens)-1); err != nil {
				return err
			}
		}
		if code, err := q.decode(); err != nil || code != 0 {
			return fmt.Errorf("decode: code %d, %v", code, err)
		}
		return nil
	}
	last := len(tokens) - 1
	for at := 0; at < last; at += q.most {
		if err := run(tokens[at:min(at+q.most, last)], pos+at, false); err != nil {
			return nil, nil, err
		}
	}
	if state, err = q.read(slot); err != nil {
		return nil, nil, err
	}
	state = slices.Clone(state)
	if err := run(tokens[last:], pos+last, true); err != nil {
		return nil, nil, err
	}
	row, err := q.row(0)
	if err != nil {
		return nil, nil, err
	}
	logits = slices.Clone(row)
	return state, logits, q.trim(slot, 0)
}

// proof saves, restores and compares: the last token must yield the same logits,
// and must not after other pages.
func (q *sequences) proof(slot int32, tokens []engine.Token, pageTokens int, state []byte, logits []float32) error {
	n := len(tokens) - 1
	v, err := q.form.view(state, n)
	if err != nil {
		return err
	}
	pages := [2][]byte{make([]byte, pageTokens*q.form.row), make([]byte, pageTokens*q.form.row)}
	for i, page := range pages {
		v.cut(page, i*pageTokens, pageTokens)
	}
	again := func(wanted ...int32) (same bool, err error) {
		q.forget()
		if err := q.restore(slot, wanted, pageTokens, func(i int32) []byte { return pages[i] }); err != nil {
			return false, err
		}
		_, got, err := q.try(slot, n, tokens[n:])
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
	q.forget()
	return nil
}
