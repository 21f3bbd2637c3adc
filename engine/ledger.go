package engine

import (
	"errors"
	"fmt"

	"llamero/tokenizer"
)

// ErrPlan marks a plan that an engine refuses before it touches the model: what
// llama.cpp would answer with an assertion is an error here. It means a fault in
// the scheduler, never in a request.
var ErrPlan = errors.New("engine: invalid plan")

// ErrNoRoom: the pool had no cells left for a pass; the slots are as before it.
var ErrNoRoom = errors.New("engine: no room in the KV pool")

// Ledger knows what each slot holds without asking the model. Engines keep one
// and check every edit and pass against it; it costs a few bytes a token and is
// what penalties and trims are computed from. A pass that failed is not recorded,
// so the ledger is also what the model's memory is put back to.
type Ledger struct {
	limits Limits
	slots  []Slot
	cells  *Cells
}

// Slot is the ledger's view of one slot.
type Slot struct {
	Open     bool
	Tokens   []Token // what the KV holds, by position
	Prompt   int     // how many of a request's tokens are prompt
	Sampling Sampling
}

// NewLedger returns a ledger of empty slots.
func NewLedger(l Limits) *Ledger {
	n := l.Slots + l.Scratch
	return &Ledger{limits: l, slots: make([]Slot, n), cells: NewCells(l.Layout, n)}
}

// Slot returns slot i for reading; i must be in range.
func (l *Ledger) Slot(i int32) *Slot { return &l.slots[i] }

// Len is the number of slots, scratch slots included.
func (l *Ledger) Len() int { return len(l.slots) }

// Used is how many cells of the pool are in use.
func (l *Ledger) Used() int { return l.cells.Used() }

func planErr(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(format, args...))
}

// slot checks a slot number that a request may use.
func (l *Ledger) slot(i int32) (*Slot, error) {
	if i < 0 || int(i) >= l.limits.Slots {
		return nil, planErr("slot %d of %d", i, l.limits.Slots)
	}
	return &l.slots[i], nil
}

func (l *Ledger) checkTokens(slot int32, tokens []Token) error {
	for _, t := range tokens {
		if t < 0 || int(t) >= l.limits.Vocab {
			return planErr("slot %d is given token %d; the vocabulary has %d", slot, t, l.limits.Vocab)
		}
	}
	return nil
}

// CheckEdit says whether an edit may be done now.
func (l *Ledger) CheckEdit(e Edit) error {
	s, err := l.slot(e.Slot)
	if err != nil {
		return err
	}
	if e.Kind != EditOpen && e.Kind != EditDrop && !s.Open {
		return planErr("edit %d of slot %d, which is not open", e.Kind, e.Slot)
	}
	switch e.Kind {
	case EditOpen:
		if s.Open || len(s.Tokens) > 0 {
			return planErr("open of slot %d, which is in use", e.Slot)
		}
		if e.Len < 0 {
			return planErr("open of slot %d with a prompt of %d tokens", e.Slot, e.Len)
		}
		return e.Sampling.Check(l.limits.Vocab)
	case EditTrim:
		if !l.limits.Trims && e.Len > 0 && int(e.Len) < len(s.Tokens) {
			return planErr("trim of slot %d of a model that cannot be trimmed", e.Slot)
		}
		if e.Len < 0 || int(e.Len) > len(s.Tokens) {
			return planErr("trim of slot %d from %d to %d tokens", e.Slot, len(s.Tokens), e.Len)
		}
	case EditMove, EditFork:
		to, err := l.slot(e.To)
		if err != nil {
			return err
		}
		if len(to.Tokens) > 0 || e.To == e.Slot || to.Open != (e.Kind == EditFork) {
			return planErr("copy of slot %d to slot %d, which is not free for it", e.Slot, e.To)
		}
		if e.Kind == EditFork {
			if e.Len < 1 || int(e.Len) > len(s.Tokens) {
				return planErr("fork of %d tokens of slot %d, which has %d", e.Len, e.Slot, len(s.Tokens))
			}
			if !l.limits.Trims && int(e.Len) < len(s.Tokens) {
				return planErr("partial fork of slot %d of a model that cannot be trimmed", e.Slot)
			}
		}
	case EditRestore:
		if len(s.Tokens) > 0 || len(e.Tokens) == 0 || len(e.Tokens) > l.limits.SlotTokens {
			return planErr("restore of %d tokens into slot %d, which holds %d", len(e.Tokens), e.Slot, len(s.Tokens))
		}
		if len(e.Tokens) != len(e.Pages)*l.limits.PageTokens {
			return planErr("restore of %d tokens into slot %d from %d pages of %d", len(e.Tokens), e.Slot, len(e.Pages), l.limits.PageTokens)
		}
		if err := e.CheckPages(l.limits.Pages); err != nil {
			return err
		}
		if err := l.checkTokens(e.Slot, e.Tokens); err != nil {
			return err
		}
		if l.Used()+len(e.Tokens) > l.limits.PoolTokens {
			return ErrNoRoom
		}
	case EditSave:
		// A product of int32s that a pipe carried here: it must not wrap.
		if end := (int64(e.First) + int64(len(e.Pages))) * int64(l.limits.PageTokens); e.First < 0 || len(e.Pages) == 0 || end > int64(len(s.Tokens)) {
			return planErr("save of %d pages of slot %d from page %d on; the slot holds %d tokens", len(e.Pages), e.Slot, e.First, len(s.Tokens))
		}
		return e.CheckPages(l.limits.Pages)
	case EditDrop:
	default:
		return planErr("edit of kind %d", e.Kind)
	}
	return nil
}

// Apply records an edit that has been checked and done.
func (l *Ledger) Apply(e Edit) {
	s := &l.slots[e.Slot]
	switch e.Kind {
	case EditOpen:
		*s = Slot{Open: true, Prompt: int(e.Len), Sampling: e.Sampling, Tokens: s.Tokens[:0]}
	case EditTrim:
		l.cells.Cut(e.Slot, int(e.Len))
		s.Tokens = s.Tokens[:e.Len]
	case EditMove:
		l.cells.Move(e.Slot, e.To)
		l.slots[e.To], *s = *s, Slot{Tokens: l.slots[e.To].Tokens[:0]}
	case EditFork:
		to := &l.slots[e.To]
		to.Tokens = append(to.Tokens[:0], s.Tokens[:e.Len]...)
		l.cells.Fork(e.Slot, e.To, int(e.Len))
	case EditDrop:
		l.cells.Cut(e.Slot, 0)
		*s = Slot{Tokens: s.Tokens[:0]}
	case EditRestore:
		s.Tokens = append(s.Tokens[:0], e.Tokens...)
		l.cells.Grow(e.Slot, len(e.Tokens))
	}
}

// CheckPass says whether a pass may run now: every row continues its slot, and
// the shape is one that the layout computes in one piece.
func (l *Ledger) CheckPass(p Pass) error {
	if len(p.Rows) == 0 {
		return planErr("a pass without rows")
	}
	var tokens, outputs, grown int
	for i := range p.Rows {
		r := &p.Rows[i]
		if r.Slot < 0 || int(r.Slot) >= len(l.slots) {
			return planErr("row of slot %d of %d", r.Slot, len(l.slots))
		}
		s := &l.slots[r.Slot]
		n := r.Width()
		switch {
		case r.Draft < 0 || int(r.Draft) > l.limits.Draft || r.Draft > 0 && len(r.Guess) > 0:
			return planErr("row of slot %d drafts %d tokens beside a guess of %d; the draft model gives %d", r.Slot, r.Draft, len(r.Guess), l.limits.Draft)
		case len(r.Tokens) == 0:
			return planErr("row of slot %d without tokens", r.Slot)
		case int(r.Pos) != len(s.Tokens):
			return planErr("row of slot %d at position %d; the slot holds %d", r.Slot, r.Pos, len(s.Tokens))
		case !r.Idle && !s.Open:
			return planErr("row of slot %d, which is not open", r.Slot)
		case r.Idle && (r.Sample || r.Score || r.guesses() > 0):
			return planErr("idle row of slot %d that asks for something", r.Slot)
		case !r.Idle && len(s.Tokens)+n > l.limits.SlotTokens:
			return planErr("row of slot %d grows it to %d tokens; it holds %d", r.Slot, len(s.Tokens)+n, l.limits.SlotTokens)
		case r.Idle && l.limits.Layout == Split && len(s.Tokens)+n > l.limits.SlotTokens+1:
			return planErr("idle row of slot %d ends at %d tokens; it has room for one beyond %d", r.Slot, len(s.Tokens)+n, l.limits.SlotTokens)
		case r.Score && r.Next != tokenizer.None && (r.Next < 0 || int(r.Next) >= l.limits.Vocab):
			return planErr("row of slot %d scores token %d; the vocabulary has %d", r.Slot, r.Next, l.limits.Vocab)
		case r.Idle && !l.limits.Trims && len(s.Tokens) > 0:
			return planErr("idle row of slot %d, which cannot be trimmed again", r.Slot)
		case r.guesses() > 0 && (!r.Sample || r.Score):
			return planErr("row of slot %d guesses what it does not draw", r.Slot)
		case r.guesses() > 0 && !l.limits.Trims:
			return planErr("row of slot %d guesses; what is not accepted could not be trimmed", r.Slot)
		}
		if err := l.checkTokens(r.Slot, r.Tokens); err != nil {
			return err
		}
		if err := l.checkTokens(r.Slot, r.Guess); err != nil {
			return err
		}
		tokens += n
		grown += n
		outputs += r.Outputs(p.Kind)
		for j := range i {
			if p.Rows[j].Slot == r.Slot {
				return planErr("two rows of slot %d in one pass", r.Slot)
			}
		}
		if l.limits.Layout == Split && i > 0 {
			if prev := &p.Rows[i-1]; r.Slot != prev.Slot+1 || n != prev.Width() {
				return planErr("rows of slots %d (%d tokens) and %d (%d tokens) cannot share a pass in the split layout",
					prev.Slot, prev.Width(), r.Slot, n)
			}
		}
	}
	if tokens > l.limits.PassTokens {
		return planErr("a pass of %d tokens; %d fit", tokens, l.limits.PassTokens)
	}
	if outputs > l.limits.PassOutputs {
		return planErr("a pass of %d outputs; %d fit", outputs, l.limits.PassOutputs)
	}
	if l.limits.Layout == Unified && l.Used()+grown > l.limits.PoolTokens {
		return ErrNoRoom
	}
	return nil
}

// ApplyPass records a pass that has run, whole guesses too, with drafted ones in their
// rows' Guess: what is not accepted of them is to be trimmed. Idle rows leave no trace.
func (l *Ledger) ApplyPass(p Pass) {
	for i := range p.Rows {
		r := &p.Rows[i]
		if r.Idle {
			continue
		}
		s := &l.slots[r.Slot]
		s.Tokens = append(append(s.Tokens, r.Tokens...), r.Guess...)
		l.cells.Grow(r.Slot, r.Width())
	}
}
