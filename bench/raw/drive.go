package raw

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"llamero/engine"
)

// Prompt is a request as the engine takes it.
type Prompt struct {
	Tokens   []engine.Token
	Generate int // tokens of the answer
}

// Answer is what became of a Prompt. Times count from the start of the run.
type Answer struct {
	Tokens []engine.Token
	Stamps []time.Duration // one a token
	Shared int             // tokens of the prompt that were forked and not computed
}

// minShared is the shortest common beginning of prompts that is worth a fork.
const minShared = 64

// Drive computes all answers, greedily and past any end of text, as fast as it can:
// at once, or as many at a time as there are slots and room in the pool.
func Drive(ctx context.Context, e engine.Engine, prompts []Prompt) ([]Answer, error) {
	d := &driver{ctx: ctx, e: e, limits: e.Limits(), origin: time.Now()}
	streams := make([]*stream, len(prompts))
	for i, p := range prompts {
		if n := len(p.Tokens) + p.Generate - 1; len(p.Tokens) == 0 || p.Generate < 1 || n > min(d.limits.SlotTokens, d.room()) {
			return nil, fmt.Errorf("request %d has %d tokens and asks for %d; a slot holds %d", i, len(p.Tokens), p.Generate, min(d.limits.SlotTokens, d.room()))
		}
		streams[i] = &stream{Prompt: p}
	}
	// The longest first: those that decode are then always the lowest slots.
	order := slices.Clone(streams)
	slices.SortStableFunc(order, func(a, b *stream) int {
		return cmp.Or(cmp.Compare(b.Generate, a.Generate), cmp.Compare(len(b.Tokens), len(a.Tokens)))
	})
	prefix := common(prompts)
	for len(order) > 0 {
		n := d.fit(order)
		if err := d.wave(order[:n], prefix, n == len(order)); err != nil {
			return nil, err
		}
		order = order[n:]
	}
	answers := make([]Answer, len(streams))
	for i, s := range streams {
		answers[i] = s.answer
	}
	return answers, nil
}

// common is the length of the beginning that all prompts share, 0 if it is not worth
// sharing. Each prompt keeps a token of its own: one has to be computed.
func common(prompts []Prompt) int {
	if len(prompts) < 2 {
		return 0
	}
	n := len(prompts[0].Tokens) - 1
	for _, p := range prompts {
		n = min(n, len(p.Tokens)-1)
		for i := range n {
			if p.Tokens[i] != prompts[0].Tokens[i] {
				n = i
				break
			}
		}
	}
	if n < minShared {
		return 0
	}
	return n
}

// stream is a prompt in a slot.
type stream struct {
	Prompt
	done   int // tokens in the slot
	answer Answer
}

func (s *stream) gap() int    { return max(0, len(s.Tokens)-s.done) }
func (s *stream) ended() bool { return len(s.answer.Tokens) == s.Generate }

type driver struct {
	ctx    context.Context
	e      engine.Engine
	limits engine.Limits
	origin time.Time
	steps  uint64
	kept   bool // slot 0 is open and holds the common beginning
}

// room is what the pool holds; where idle rows take cells of it, beside them.
func (d *driver) room() int {
	if d.limits.Layout == engine.Unified {
		return d.limits.PoolTokens - widthStep
	}
	return d.limits.PoolTokens
}

// fit says how many of the streams can run together.
func (d *driver) fit(order []*stream) int {
	room := d.room()
	for i, s := range order {
		room -= len(s.Tokens) + s.Generate
		if i == d.limits.Slots || i > 0 && room < 0 {
			return i
		}
	}
	return len(order)
}

// wave computes streams that fit together, the i-th in slot i.
func (d *driver) wave(streams []*stream, prefix int, last bool) error {
	if err := d.open(streams, prefix); err != nil {
		return err
	}
	if err := d.prefill(streams); err != nil {
		return err
	}
	if err := d.decode(streams); err != nil {
		return err
	}
	var edits []engine.Edit
	for i := range streams {
		if i == 0 && prefix > 0 && !last && d.limits.Trims {
			edits = append(edits, engine.Edit{Kind: engine.EditTrim, Slot: 0, Len: int32(prefix)})
			d.kept = true
			continue
		}
		edits = append(edits, engine.Edit{Kind: engine.EditDrop, Slot: int32(i)})
	}
	_, err := d.step(edits)
	return err
}

// open gives every stream its slot, with the common beginning in it.
func (d *driver) open(streams []*stream, prefix int) error {
	var edits []engine.Edit
	for i, s := range streams {
		if i > 0 || !d.kept {
			edits = append(edits, engine.Edit{Kind: engine.EditOpen, Slot: int32(i), Len: int32(len(s.Tokens))})
		}
	}
	if _, err := d.step(edits); err != nil || prefix == 0 {
		return err
	}
	first := streams[0]
	if d.kept {
		first.done, first.answer.Shared = prefix, prefix
	} else {
		whole := first.Prompt
		first.Tokens = whole.Tokens[:prefix]
		err := d.chunks(streams[:1], false)
		first.Prompt = whole
		if err != nil {
			return err
		}
	}
	edits = edits[:0]
	for i, s := range streams[1:] {
		edits = append(edits, engine.Edit{Kind: engine.EditFork, Slot: 0, To: int32(i + 1), Len: int32(prefix)})
		s.done, s.answer.Shared = prefix, prefix
	}
	_, err := d.step(edits)
	return err
}

// prefill computes what is left of the prompts, and each answer's first token.
func (d *driver) prefill(streams []*stream) error { return d.chunks(streams, true) }

// chunks computes the gaps of all streams, the widest passes that the layout allows.
func (d *driver) chunks(streams []*stream, sample bool) error {
	for {
		p := engine.Pass{Kind: engine.PassPrefill}
		for _, r := range d.chunk(streams) {
			s := streams[r.slot]
			p.Rows = append(p.Rows, engine.Row{Slot: int32(r.slot), Pos: int32(s.done),
				Tokens: s.Tokens[s.done : s.done+r.tokens], Sample: sample && r.tokens == s.gap()})
		}
		if len(p.Rows) == 0 {
			return nil
		}
		if _, err := d.pass(streams, p); err != nil {
			return err
		}
	}
}

// decode computes one token of every stream a pass, until each has its answer.
func (d *driver) decode(streams []*stream) error {
	live := len(streams)
	for {
		was := live
		for live > 0 && streams[live-1].ended() {
			live--
		}
		if live == 0 {
			return nil
		}
		// Idle rows stand behind what a slot holds, and attend to it: empty the slots of
		// those that have ended.
		var edits []engine.Edit
		for i := live; i < was; i++ {
			edits = append(edits, engine.Edit{Kind: engine.EditDrop, Slot: int32(i)})
		}
		rows := append(decodeRows(streams[:live]), d.idle(live)...)
		if _, err := d.pass(streams, engine.Pass{Kind: engine.PassDecode, Rows: rows}, edits...); err != nil {
			return err
		}
	}
}

// pass runs one pass and notes what it gave.
func (d *driver) pass(streams []*stream, p engine.Pass, edits ...engine.Edit) (engine.Output, error) {
	out, err := d.step(edits, p)
	if err != nil {
		return out, err
	}
	at := time.Since(d.origin)
	for i, r := range p.Rows {
		if r.Idle {
			continue
		}
		s := streams[r.Slot]
		s.done += len(r.Tokens)
		if !r.Sample {
			continue
		}
		if len(out.Rows) <= i || len(out.Rows[i].Sampled) == 0 {
			return out, fmt.Errorf("the engine drew no token for slot %d", r.Slot)
		}
		s.answer.Tokens = append(s.answer.Tokens, out.Rows[i].Sampled[0].Token)
		s.answer.Stamps = append(s.answer.Stamps, at)
	}
	return out, nil
}

// step runs edits and at most one pass.
func (d *driver) step(edits []engine.Edit, passes ...engine.Pass) (out engine.Output, err error) {
	d.steps++
	err = d.e.Step(d.ctx, engine.Plan{Step: d.steps, Edits: edits, Passes: passes}, func(o engine.Output) { out = o })
	return out, err
}
