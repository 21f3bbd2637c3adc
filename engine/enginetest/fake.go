// Package enginetest has a fake model that tells on its caller, and the
// conformance suite that every engine passes.
package enginetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"llamero/engine"
	"llamero/tokenizer"
)

// Fake is an engine whose next token is a hash of the KV it really holds: a
// skipped position, a stale copy or a row that was not rolled back changes the
// text from there on. Time is simulated: a pass takes what Cost says.
type Fake struct {
	limits engine.Limits
	ledger *engine.Ledger
	kv     [][]engine.Token // what a slot holds, kept apart from the ledger

	// Memory holds the host pages. Like real KV, a page's tokens are worth what they
	// are only behind the tokens that they were computed behind: it begins with a hash
	// of those.
	Memory []byte

	// Cost is the simulated time of a pass in nanoseconds; nil takes a sawtooth of
	// fours like that of real kernels.
	Cost func(p *engine.Pass, depth int) int64
	// Fail is asked before the edits (pass -1) and before each pass; an error fails
	// the step there, and the slots are filled with rubbish, as after a crash.
	Fail func(step uint64, pass int) error
	// FailEdit is asked before each edit. An error fails the step there likewise; of a
	// page that the edit would have saved, half is written.
	FailEdit func(step uint64, edit int) error
	// EOG, if positive, is drawn instead of about one token in EOGEvery.
	EOG      engine.Token
	EOGEvery int
	// Echo, if positive, makes the text repeat itself, but for about one token in Echo:
	// what is drawn is what followed the last token where it stood before.
	Echo int
	// Wrong, if positive, is one in how many drafted tokens is wrong; else none is.
	Wrong int
	// DraftCost is what drafting a token of each row takes, and a twentieth of what
	// reading one does, in nanoseconds.
	DraftCost int64

	Elapsed int64 // simulated nanoseconds of all passes
	Passes  int
	Rows    int
	Idle    int // idle tokens computed
	Moves   int

	Saved, Restored int // tokens that went to host pages and came from them
	Guessed, Right  int // guessed tokens that were looked at, and that were drawn
	Drafted         int // tokens

	read   []int32 // of each slot, tokens that the draft model has read
	closed bool
}

var _ engine.Engine = (*Fake)(nil)

// DefaultLimits are of a small engine.
func DefaultLimits(layout engine.Layout) engine.Limits {
	l := engine.Limits{
		Layout: layout, Slots: 8, SlotTokens: 256, PoolTokens: 8 * 256, PassTokens: 128,
		PassOutputs: 64, Vocab: 1000, TokenBytes: 100, Trims: true, PageTokens: 16, Pages: 32,
	}
	if layout == engine.Unified {
		l.Scratch = 1
	}
	return l
}

// NewFake returns a fake engine with empty slots.
func NewFake(l engine.Limits) *Fake {
	l.PageBytes = 8 + 4*l.PageTokens
	return &Fake{limits: l, ledger: engine.NewLedger(l), kv: make([][]engine.Token, l.Slots+l.Scratch),
		read: make([]int32, l.Slots+l.Scratch), DraftCost: 1e6, Memory: make([]byte, l.Pages*l.PageBytes)}
}

// Limits implements engine.Engine.
func (f *Fake) Limits() engine.Limits { return f.limits }

// Close implements engine.Engine.
func (f *Fake) Close() error { f.closed = true; return nil }

// Step implements engine.Engine.
func (f *Fake) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	if f.closed {
		return fmt.Errorf("enginetest: step after close")
	}
	if err := f.fail(p.Step, -1); err != nil {
		return err
	}
	for i, e := range p.Edits {
		if err := f.failEdit(p.Step, i, e); err != nil {
			return err
		}
		if err := f.edit(e); err != nil {
			return err
		}
	}
	for i := range p.Passes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.fail(p.Step, i); err != nil {
			return err
		}
		out, err := f.pass(&p.Passes[i])
		if err != nil {
			return err
		}
		out.Step, out.Pass = p.Step, i
		emit(out)
	}
	if len(p.Passes) == 0 {
		emit(engine.Output{Step: p.Step, Pass: -1})
	}
	return nil
}

// fail asks Fail.
func (f *Fake) fail(step uint64, pass int) error {
	if f.Fail == nil {
		return nil
	}
	err := f.Fail(step, pass)
	if err != nil {
		f.crash()
	}
	return err
}

// failEdit asks FailEdit, and tears the pages that the edit was to save.
func (f *Fake) failEdit(step uint64, edit int, e engine.Edit) error {
	if f.FailEdit == nil {
		return nil
	}
	err := f.FailEdit(step, edit)
	if err == nil {
		return nil
	}
	if e.Kind == engine.EditSave && f.ledger.CheckEdit(e) == nil {
		f.save(e)
		for _, p := range e.Pages {
			if p >= 0 {
				page := f.limits.Page(f.Memory, p)
				for i := len(page) / 2; i < len(page); i++ {
					page[i] = ^page[i]
				}
			}
		}
	}
	f.crash()
	return err
}

// crash leaves nothing in the slots that anybody could go on with, except by dropping
// it.
func (f *Fake) crash() {
	for i := range f.kv {
		f.kv[i] = append(f.kv[i], 13, 13, 13)
	}
}

// Restart is how an engine that was lost comes back: its slots are empty and closed,
// and host pages hold what they held.
func (f *Fake) Restart() {
	f.ledger, f.kv = engine.NewLedger(f.limits), make([][]engine.Token, len(f.kv))
	clear(f.read)
}

func (f *Fake) edit(e engine.Edit) error {
	if err := f.ledger.CheckEdit(e); err != nil {
		return err
	}
	switch e.Kind {
	case engine.EditTrim:
		f.kv[e.Slot] = f.kv[e.Slot][:e.Len]
	case engine.EditMove:
		f.Moves++
		f.kv[e.To] = append(f.kv[e.To][:0], f.kv[e.Slot]...)
		f.kv[e.Slot] = f.kv[e.Slot][:0]
		f.read[e.To] = f.read[e.Slot]
	case engine.EditFork:
		f.kv[e.To] = append(f.kv[e.To][:0], f.kv[e.Slot][:e.Len]...)
		f.read[e.To] = min(f.read[e.Slot], e.Len)
	case engine.EditDrop:
		f.kv[e.Slot] = f.kv[e.Slot][:0]
	case engine.EditRestore:
		kv := f.kv[e.Slot]
		for _, p := range e.Pages {
			page := f.limits.Page(f.Memory, p)
			right := binary.LittleEndian.Uint64(page) == hash(kv)
			for i := range f.limits.PageTokens {
				t := engine.Token(binary.LittleEndian.Uint32(page[8+4*i:]))
				if !right {
					t = (t + 1) % engine.Token(f.limits.Vocab) // rubbish, but of the right length
				}
				kv = append(kv, t)
			}
		}
		f.kv[e.Slot] = kv
		f.Restored += len(e.Tokens)
	case engine.EditSave:
		f.save(e)
	}
	f.ledger.Apply(e)
	f.unread(e.Slot)
	return nil
}

// unread: the draft model has read no more than a slot holds.
func (f *Fake) unread(slot int32) { f.read[slot] = min(f.read[slot], int32(len(f.kv[slot]))) }

// save copies a slot's pages out.
func (f *Fake) save(e engine.Edit) {
	for i, p := range e.Pages {
		if p >= 0 {
			end := (int(e.First) + i + 1) * f.limits.PageTokens
			f.WritePage(f.limits.Page(f.Memory, p), f.kv[e.Slot][:end])
			f.Saved += f.limits.PageTokens
		}
	}
}

// WritePage makes a host page of the last tokens of a text, as many as a page has: what
// any engine that computes the text saves there.
func (f *Fake) WritePage(page []byte, text []engine.Token) {
	at := len(text) - f.limits.PageTokens
	binary.LittleEndian.PutUint64(page, hash(text[:at]))
	for i, t := range text[at:] {
		binary.LittleEndian.PutUint32(page[8+4*i:], uint32(t))
	}
}

func (f *Fake) pass(p *engine.Pass) (engine.Output, error) {
	if err := f.ledger.CheckPass(*p); err != nil {
		return engine.Output{}, err
	}
	out := engine.Output{Rows: make([]engine.RowOutput, len(p.Rows))}
	p, out.DraftNanos = f.propose(p, out.Rows)
	depth := 0
	for i := range p.Rows {
		r := &p.Rows[i]
		kv := append(f.kv[r.Slot], r.Tokens...)
		depth = max(depth, len(f.kv[r.Slot]))
		out.Rows[i].Slot = r.Slot
		f.Rows++
		if r.Idle {
			f.Idle += len(r.Tokens)
			continue
		}
		f.kv[r.Slot] = kv
		s := f.ledger.Slot(r.Slot)
		if r.Score {
			next := append(slices.Clone(r.Tokens[1:]), r.Next)
			for j, t := range next {
				if t != tokenizer.None {
					out.Rows[i].Scores = append(out.Rows[i].Scores, engine.Sampled{Token: t, LogProb: f.score(kv[:len(kv)-len(next)+j+1], t)})
				}
			}
		}
		if r.Sample {
			drawn := []engine.Sampled{f.draw(kv, &s.Sampling)}
			for _, t := range r.Guess {
				f.Guessed++
				if t != drawn[len(drawn)-1].Token {
					break
				}
				f.Right++
				kv = append(kv, t)
				drawn = append(drawn, f.draw(kv, &s.Sampling))
			}
			f.kv[r.Slot], out.Rows[i].Sampled = kv, drawn
		}
	}
	f.ledger.ApplyPass(*p)
	for i := range p.Rows {
		r := &p.Rows[i]
		if len(r.Guess) > 0 {
			trim := engine.Edit{Kind: engine.EditTrim, Slot: r.Slot, Len: int32(len(f.kv[r.Slot]))}
			if err := f.ledger.CheckEdit(trim); err != nil {
				return out, err
			}
			f.ledger.Apply(trim)
		}
		if held := f.ledger.Slot(r.Slot); !r.Idle && len(held.Tokens) != len(f.kv[r.Slot]) {
			return out, fmt.Errorf("enginetest: slot %d holds %d tokens, the ledger %d", r.Slot, len(f.kv[r.Slot]), len(held.Tokens))
		}
		if f.limits.Draft > 0 && r.Sample {
			f.unread(r.Slot)
			out.Rows[i].Read = f.read[r.Slot]
		}
	}
	cost := f.Cost
	if cost == nil {
		cost = sawtooth
	}
	out.Nanos = cost(p, depth) + out.DraftNanos
	f.Elapsed += out.Nanos
	f.Passes++
	return out, nil
}

// propose drafts what a pass's rows want: what would be drawn, but for the wrong ones.
func (f *Fake) propose(p *engine.Pass, out []engine.RowOutput) (*engine.Pass, int64) {
	filled := &engine.Pass{Kind: p.Kind, Rows: slices.Clone(p.Rows)}
	room, read, steps := f.limits.PassTokens, 0, int32(0)
	for i := range filled.Rows {
		r := &filled.Rows[i]
		if r.Draft == 0 {
			continue
		}
		kv := append(slices.Clone(f.kv[r.Slot]), r.Tokens...)
		n := min(room, len(kv)-int(f.read[r.Slot]))
		f.read[r.Slot] += int32(n)
		room, read = room-n, read+n
		ready := int(f.read[r.Slot]) == len(kv)
		sampling := f.ledger.Slot(r.Slot).Sampling
		for range r.Draft {
			t := engine.Token(0)
			if ready {
				if t = f.draw(kv, &sampling).Token; f.Wrong > 0 && hash(kv, 4)%uint64(f.Wrong) == 0 {
					t = (t + 1) % engine.Token(f.limits.Vocab)
				}
			}
			kv = append(kv, t)
			r.Guess = append(r.Guess, t)
		}
		if ready {
			f.Drafted += len(r.Guess)
			f.read[r.Slot] += r.Draft - 1
			out[i].Drafted, steps = r.Guess, max(steps, r.Draft)
		}
		r.Draft = 0
	}
	return filled, int64(steps)*f.DraftCost + int64(read)*f.DraftCost/20
}

// sawtooth makes a pass of a multiple of four rows cheaper than the ones before it.
func sawtooth(p *engine.Pass, depth int) int64 {
	n := 0
	for i := range p.Rows {
		n += p.Rows[i].Width()
	}
	cost := 4_000_000 + int64(n)*1_000_000 + int64(n*depth)*1000
	if n%4 != 0 {
		cost += int64(n%4) * 500_000
	}
	return cost
}

// hash is FNV-1a over the numbers' bytes, the lowest first. It is most of what the fake
// costs, so hash/fnv's buffer is left out.
func hash(kv []engine.Token, salt ...uint64) uint64 {
	h := uint64(14695981039346656037)
	put := func(x uint64) {
		for range 8 {
			h = (h ^ x&0xff) * 1099511628211
			x >>= 8
		}
	}
	for _, s := range salt {
		put(s)
	}
	for _, t := range kv {
		put(uint64(t))
	}
	return h
}

// Reference is what the fake answers to a prompt, computed without any engine.
func (f *Fake) Reference(prompt []engine.Token, s engine.Sampling, n int, stop ...engine.Token) []engine.Token {
	kv := slices.Clone(prompt)
	for range n {
		t := f.draw(kv, &s).Token
		if slices.Contains(stop, t) {
			break
		}
		kv = append(kv, t)
	}
	return kv[len(prompt):]
}

func (f *Fake) draw(kv []engine.Token, s *engine.Sampling) engine.Sampled {
	var h uint64
	if s.Temperature == 0 {
		h = hash(kv, 1)
	} else {
		h = hash(kv, 2, s.Seed, uint64(s.Choice))
	}
	if f.EOGEvery > 0 && h>>32%uint64(f.EOGEvery) == 0 {
		return engine.Sampled{Token: f.EOG}
	}
	t := engine.Token(h % uint64(f.limits.Vocab))
	if f.Echo > 0 && h>>16%uint64(f.Echo) != 0 {
		last := len(kv) - 1
		for i := last - 1; i >= 0; i-- {
			if kv[i] == kv[last] {
				t = kv[i+1]
				break
			}
		}
	}
	return engine.Sampled{Token: t, LogProb: f.score(kv, t)}
}

func (f *Fake) score(kv []engine.Token, t engine.Token) float32 {
	return -float32(hash(kv, 3, uint64(t))>>40) / (1 << 24)
}
