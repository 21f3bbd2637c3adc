package llama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
	"llamero/tokenizer"
)

// want is an output of a pass that somebody asked for.
type want struct {
	row   int          // of the pass
	index int32        // of the batch
	score engine.Token // to be scored; tokenizer.None: to be sampled
	after int          // tokens of the slot that a draw follows
}

// Step implements engine.Engine. A pass cannot be interrupted, so ctx is looked
// at between passes.
func (e *Engine) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	if e.ctx == 0 {
		return errors.New("engine: closed")
	}
	start := time.Now()
	e.forget() // since the last step pages may have got other bytes
	if e.draft != nil {
		e.draft.forget()
	}
	for i := range p.Edits {
		if err := e.edit(p.Edits[i]); err != nil {
			return err
		}
	}
	edits := int64(time.Since(start))
	for i := range p.Passes {
		if err := ctx.Err(); err != nil {
			return err
		}
		out, err := e.pass(&p.Passes[i])
		if err != nil {
			return err
		}
		out.Step, out.Pass, out.EditNanos = p.Step, i, edits
		edits = 0
		emit(out)
	}
	if len(p.Passes) == 0 {
		emit(engine.Output{Step: p.Step, Pass: -1, EditNanos: edits})
	}
	return nil
}

func (e *Engine) edit(x engine.Edit) error {
	if err := e.ledger.CheckEdit(x); err != nil {
		return err
	}
	if x.Kind != engine.EditOpen && x.Kind != engine.EditFork {
		e.forked = -1 // the slot may change
	}
	var err error
	switch x.Kind {
	case engine.EditTrim:
		err = e.trim(x.Slot, x.Len)
	case engine.EditDrop:
		err = e.trim(x.Slot, 0)
	case engine.EditMove:
		n := int32(len(e.ledger.Slot(x.Slot).Tokens))
		if err = e.copy(x.Slot, x.To, n, n); err == nil {
			err = e.trim(x.Slot, 0)
		}
	case engine.EditFork:
		err = e.copy(x.Slot, x.To, x.Len, int32(len(e.ledger.Slot(x.Slot).Tokens)))
	case engine.EditRestore:
		err = e.restore(x.Slot, x.Pages)
	case engine.EditSave:
		err = e.save(x)
	}
	if err != nil {
		return err
	}
	e.ledger.Apply(x)
	if e.draft != nil {
		e.draft.edit(x)
	}
	return nil
}

// copy brings the first n of a slot's have tokens into an empty slot. Between
// streams it goes by state out and state in: llama_memory_seq_cp would copy the
// bytes only at the next decode, and what happens in between would be lost.
func (e *Engine) copy(from, to, n, have int32) error {
	if n == 0 {
		return nil
	}
	if e.limits.Layout == engine.Unified {
		return e.tag(from, to, n, have)
	}
	// Many forks of one slot in a row are written from one reading of it.
	if e.forked != from {
		if _, err := e.read(from); err != nil {
			return err
		}
		e.forked = from
	}
	if err := e.write(to, e.state); err != nil {
		return err
	}
	if n < have {
		return e.trim(to, n)
	}
	return nil
}

// pass runs one call of the model and samples.
func (e *Engine) pass(p *engine.Pass) (engine.Output, error) {
	start := time.Now()
	if err := e.ledger.CheckPass(*p); err != nil {
		return engine.Output{}, err
	}
	var drafted [][]engine.Token
	var drafting time.Duration
	if slices.ContainsFunc(p.Rows, func(r engine.Row) bool { return r.Draft > 0 }) {
		var err error
		if p, drafted, err = e.draft.propose(p, e.ledger, e.pool); err != nil {
			return engine.Output{}, err
		}
		drafting = time.Since(start)
	}
	if err := e.fill(p); err != nil {
		return engine.Output{}, err
	}
	code, err := e.decode()
	if err != nil {
		return engine.Output{}, err
	}
	if code != 0 {
		return engine.Output{}, e.failed(code)
	}
	e.ledger.ApplyPass(*p)
	out, err := e.sample(p)
	if err != nil {
		return out, err
	}
	// Logits have been read: now the memory may change.
	for i := range p.Rows {
		r := &p.Rows[i]
		if r.Idle {
			if err := e.trim(r.Slot, r.Pos); err != nil {
				return out, err
			}
		}
		if len(r.Guess) > 0 {
			right := len(out.Rows[i].Sampled) - 1
			if err := e.edit(engine.Edit{Kind: engine.EditTrim, Slot: r.Slot, Len: r.Pos + int32(len(r.Tokens)+right)}); err != nil {
				return out, err
			}
		}
		if e.draft != nil && r.Sample {
			out.Rows[i].Read = e.draft.read[r.Slot]
		}
		if drafted != nil {
			out.Rows[i].Drafted = drafted[i]
		}
	}
	out.Nanos, out.DraftNanos = int64(time.Since(start)), int64(drafting)
	return out, nil
}

// fill writes the pass into the batch and notes which outputs are wanted.
func (e *Engine) fill(p *engine.Pass) error {
	e.batch.Clear()
	e.wants = e.wants[:0]
	for i := range p.Rows {
		r := &p.Rows[i]
		for j, t := range r.Tokens {
			index := e.batch.NTokens
			last := j == len(r.Tokens)-1
			wanted := false
			if r.Score {
				next := r.Next
				if !last {
					next = r.Tokens[j+1]
				}
				if next != tokenizer.None {
					e.wants = append(e.wants, want{row: i, index: index, score: next})
					wanted = true
				}
			}
			if r.Sample && last {
				e.wants = append(e.wants, want{row: i, index: index, score: tokenizer.None, after: int(r.Pos) + j + 1})
				wanted = true
			}
			if err := e.add(r.Slot, int(r.Pos)+j, t, wanted || r.Idle && p.Kind == engine.PassDecode); err != nil {
				return err
			}
		}
		for j, t := range r.Guess {
			at := int(r.Pos) + len(r.Tokens) + j
			e.wants = append(e.wants, want{row: i, index: e.batch.NTokens, score: tokenizer.None, after: at + 1})
			if err := e.add(r.Slot, at, t, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// failed puts every slot back to what the ledger says after a decode that did not
// end well: parts of it may have stayed in memory.
func (e *Engine) failed(code int32) error {
	_, why := logs.takeErrors()
	err := fmt.Errorf("engine: decode failed with code %d: %s", code, why)
	if code == 1 {
		err = engine.ErrNoRoom
	}
	for i := range e.ledger.Len() {
		slot := int32(i)
		n := int32(len(e.ledger.Slot(slot).Tokens))
		if terr := e.trim(slot, n); terr != nil {
			return errors.Join(err, terr)
		}
		if e.draft != nil && i < e.limits.Slots {
			e.draft.cut(slot, n) // it may have gone ahead
		}
		if last, perr := llama.MemorySeqPosMax(e.mem, llama.SeqId(slot)); perr != nil || int32(last) != n-1 {
			return errors.Join(err, fmt.Errorf("engine: slot %d ends at position %d; %d expected", slot, last, n-1))
		}
	}
	return err
}

// sample draws and scores what the pass wanted, on all processors.
func (e *Engine) sample(p *engine.Pass) (engine.Output, error) {
	out := engine.Output{Rows: make([]engine.RowOutput, len(p.Rows))}
	e.logits = e.logits[:0]
	for _, w := range e.wants {
		// The pointers stay good until the next decode.
		row, err := e.row(w.index)
		if err != nil {
			return out, err
		}
		e.logits = append(e.logits, row)
	}
	results := make([]engine.Sampled, len(e.wants))
	e.pool.Each(len(e.wants), func(s *engine.Sampler, i int) {
		w := e.wants[i]
		slot := e.ledger.Slot(p.Rows[w.row].Slot)
		if w.score != tokenizer.None {
			results[i] = s.Score(e.logits[i], w.score, max(1, slot.Sampling.LogProbs))
			return
		}
		results[i] = s.Sample(e.logits[i], &slot.Sampling, slot.Tokens[:w.after], slot.Prompt)
	})
	for i, w := range e.wants {
		row, r := &out.Rows[w.row], &p.Rows[w.row]
		if w.score != tokenizer.None {
			row.Scores = append(row.Scores, results[i])
			continue
		}
		// A draw behind a part of the guess that was wrong is of a text that never was.
		if n := len(row.Sampled); n == 0 || n == w.after-int(r.Pos)-len(r.Tokens) && row.Sampled[n-1].Token == r.Guess[n-1] {
			row.Sampled = results[i-n : i+1 : i+1]
		}
	}
	for i := range p.Rows {
		out.Rows[i].Slot = p.Rows[i].Slot
	}
	return out, nil
}
