package raw

import (
	"context"
	"fmt"
	"math"
	"time"

	"llamero/bench"
	"llamero/engine"
)

// Fill asks what a decode step costs while others hold a part of the KV pool.
type Fill struct {
	Streams int       // that decode together
	Shares  []float64 // of the pool, in ascending order; the streams' own tokens come on top
	Steps   int       // decode steps to measure at each
}

// FillPoint is what one share gave.
type FillPoint struct {
	Share float64
	Held  int // tokens that the other slots held
	Step  bench.Spread
}

// streamTokens is the depth that the measured streams begin at.
const streamTokens = 64

// check says whether an engine can be filled so, and returns how many tokens a full
// pool has.
func (f Fill) check(l engine.Limits) (int, error) {
	others := l.Slots - f.Streams
	if f.Streams < 1 || others < 1 {
		return 0, fmt.Errorf("%d streams leave none of %d slots to others", f.Streams, l.Slots)
	}
	own := streamTokens + f.Steps
	pool := min(others*l.SlotTokens, l.PoolTokens-f.Streams*own-widthStep)
	if f.Steps < 1 || own > l.SlotTokens || pool < l.SlotTokens {
		return 0, fmt.Errorf("%d streams of %d tokens do not fit beside a pool of %d tokens, %d a slot", f.Streams, own, l.PoolTokens, l.SlotTokens)
	}
	if !l.Trims {
		return 0, fmt.Errorf("the model cannot be cut back to where a measurement began")
	}
	return pool, nil
}

// Measure fills the pool step by step. The streams have the first slots.
func (f Fill) Measure(ctx context.Context, e engine.Engine) ([]FillPoint, error) {
	l := e.Limits()
	pool, err := f.check(l)
	if err != nil {
		return nil, err
	}
	d := &driver{ctx: ctx, e: e, limits: l, origin: time.Now()}
	streams := make([]*stream, f.Streams)
	var edits []engine.Edit
	for i := range streams {
		streams[i] = &stream{Prompt: Prompt{Tokens: made(l.Vocab, i, streamTokens), Generate: math.MaxInt}}
	}
	for i := range l.Slots {
		edits = append(edits, engine.Edit{Kind: engine.EditOpen, Slot: int32(i), Len: streamTokens})
	}
	if _, err := d.step(edits); err != nil {
		return nil, err
	}
	if err := d.prefill(streams); err != nil {
		return nil, err
	}
	others := &filler{driver: d, first: f.Streams, held: make([]int, l.Slots-f.Streams)}
	var points []FillPoint
	for _, share := range f.Shares {
		held, err := others.grow(int(share * float64(pool)))
		if err != nil {
			return nil, err
		}
		step, err := d.stepTimes(streams, f.Steps)
		if err != nil {
			return nil, err
		}
		points = append(points, FillPoint{Share: share, Held: held, Step: step})
	}
	return points, nil
}

// stepTimes decodes all streams for so many steps, says in milliseconds what a step
// took, and puts them back to where they were.
func (d *driver) stepTimes(streams []*stream, steps int) (bench.Spread, error) {
	var times []float64
	for range steps {
		out, err := d.pass(streams, engine.Pass{Kind: engine.PassDecode, Rows: decodeRows(streams)})
		if err != nil {
			return bench.Spread{}, err
		}
		times = append(times, float64(out.Nanos)/1e6)
	}
	var edits []engine.Edit
	for i, s := range streams {
		edits = append(edits, engine.Edit{Kind: engine.EditTrim, Slot: int32(i), Len: streamTokens})
		s.done = streamTokens
		s.answer = Answer{Tokens: s.answer.Tokens[:1], Stamps: s.answer.Stamps[:1]}
	}
	_, err := d.step(edits)
	return bench.NewSpread(times), err
}

// filler fills the slots from first on, one after the other, which have been opened.
type filler struct {
	*driver
	first int
	held  []int // tokens of each slot
	sum   int
}

// grow fills until so many tokens are held.
func (f *filler) grow(want int) (int, error) {
	size := f.limits.SlotTokens
	for f.sum < want {
		i := f.sum / size
		slot := f.first + i
		n := min(want-f.sum, size-f.held[i])
		if f.limits.Layout == engine.Split && i > 0 && f.held[i] == 0 {
			// A full slot is there: copying it is faster than computing. Where slots share
			// cells, a fork would hold none of its own.
			fork := engine.Edit{Kind: engine.EditFork, Slot: int32(f.first), To: int32(slot), Len: int32(n)}
			if _, err := f.step([]engine.Edit{fork}); err != nil {
				return f.sum, err
			}
		} else {
			n = min(n, f.limits.PassTokens)
			row := engine.Row{Slot: int32(slot), Pos: int32(f.held[i]), Tokens: made(f.limits.Vocab, slot*size+f.held[i], n)}
			if _, err := f.step(nil, engine.Pass{Kind: engine.PassPrefill, Rows: []engine.Row{row}}); err != nil {
				return f.sum, err
			}
		}
		f.held[i] += n
		f.sum += n
	}
	return f.sum, nil
}

// made are tokens that mean nothing.
func made(vocab, from, n int) []engine.Token {
	tokens := make([]engine.Token, n)
	for i := range tokens {
		tokens[i] = engine.Token((from + i) * 7919 % vocab)
	}
	return tokens
}
