package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"llamero/engine"
)

// measured is what a decode pass of so many rows takes on a real machine at depth
// 128, in milliseconds: kernels work in fours.
var measured = []float64{0, 4.7, 8.0, 10.3, 10.6, 14.5, 16.4, 19.0, 14.7, 18.6, 21.3, 23.2, 19.3, 23.3, 25.5, 27.6, 20.5,
	22, 23, 24, 25.7, 27, 28, 29, 30.1, 31, 32.5, 34, 35, 36, 37, 38, 38.1}

// What a row's attention takes for each token before it, in nanoseconds.
const (
	decodeAttention = 2000
	chunkAttention  = 2000
)

// machine costs passes like a real one, slower by a factor.
func machine(factor float64) func(p *engine.Pass, depth int) int64 {
	return func(p *engine.Pass, depth int) int64 {
		n := 0
		for i := range p.Rows {
			n += p.Rows[i].Width()
		}
		if p.Kind == engine.PassPrefill {
			attention := float64(chunkAttention)
			if n < 64 {
				attention *= 2 // row by row, see tileRows
			}
			return int64(factor * (5e6 + 0.8e6*float64(n) + attention*float64(n)*(float64(depth)+float64(n)/2)))
		}
		w := min(n, len(measured)-1)
		sum := 0
		for i := range p.Rows {
			sum += int(p.Rows[i].Pos) * p.Rows[i].Width() // every row attends for itself
		}
		return int64(factor * (1e6*measured[w] + decodeAttention*float64(attended(w, sum, depth)) + 1e6*float64(n-w)))
	}
}

// newMachine is a world whose engine costs like a real one, calibrated.
func newMachine(t testing.TB, cfg Config, factor float64) *world {
	w := newWorld(t, cfg)
	w.s = New(w.s.cfg)
	w.f.Cost = machine(factor)
	w.calibrate()
	return w
}

// TestDenseSlots: 32 answers run, 24 end early at random places; a step of the 8
// that remain costs what 8 neighbours cost, not what 8 rows with holes do.
func TestDenseSlots(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := newMachine(t, Config{Limits: splitLimits(32, 512)}, 1)
		long := map[int]bool{}
		for len(long) < 8 {
			long[r.IntN(32)] = true
		}
		for i := range 32 {
			n := 20 + r.IntN(40)
			if long[i] {
				n = 240
			}
			w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), 64), MaxTokens: n})
		}
		w.until("8 left", func() bool { return len(w.s.requests) == 8 })
		w.step() // moves happen here
		steps := 0
		w.onOutput = func(p *engine.Plan, out *engine.Output) {
			rows, depth := p.Passes[out.Pass].Rows, 0
			for i := range rows {
				depth = max(depth, int(rows[i].Pos))
			}
			dense := engine.Pass{Kind: engine.PassDecode, Rows: make([]engine.Row, 8)}
			for i := range dense.Rows {
				dense.Rows[i].Tokens, dense.Rows[i].Pos = []engine.Token{0}, int32(depth)
			}
			if want := machine(1)(&dense, depth); float64(out.Nanos) > 1.01*float64(want) || len(p.Passes) != 1 {
				t.Errorf("seed %d, step %d: %d rows in %d passes take %.1f ms; 8 dense ones take %.1f", seed, p.Step, len(rows), len(p.Passes), float64(out.Nanos)/1e6, float64(want)/1e6)
			}
			steps++
		}
		w.until("the end of one", func() bool { return len(w.s.requests) < 8 })
		if steps < 50 {
			t.Fatalf("seed %d: only %d steps were looked at", seed, steps)
		}
		w.onOutput = nil
		w.run()
	}
}

// TestRounding: with 7, 11 or 15 streams a step takes no longer than with 8, 12, 16.
func TestRounding(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		step := func(streams int) (nanos int64, rows int) {
			l := splitLimits(16, 256)
			l.Layout = layout
			if layout == engine.Unified {
				l.Scratch = 1
			}
			w := newMachine(t, Config{Limits: l}, 1)
			for i := range streams {
				w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), 16), MaxTokens: 30})
			}
			w.until("all decode", func() bool { return w.decoding() == streams && w.s.Stats().TokensInUse >= streams*24 })
			w.onOutput = func(p *engine.Plan, out *engine.Output) {
				nanos, rows = out.Nanos, 0
				for _, r := range p.Passes[out.Pass].Rows {
					rows += len(r.Tokens)
				}
			}
			w.step()
			w.onOutput = nil
			w.run()
			return nanos, rows
		}
		for _, n := range []int{7, 11, 15} {
			a, rows := step(n)
			b, _ := step(n + 1)
			if float64(a) > 1.02*float64(b) || rows != n+1 {
				t.Errorf("%v: %d streams take %.1f ms in %d rows, %d take %.1f", layout, n, float64(a)/1e6, rows, n+1, float64(b)/1e6)
			}
		}
		for _, n := range []int{3, 4, 8, 16} { // nothing to gain
			if _, rows := step(n); rows != n && !(n == 3 && rows == 4) {
				t.Errorf("%v: %d streams run in %d rows", layout, n, rows)
			}
		}
	}
}

// TestMovesPay: a dear move is not made for an answer that is about to end.
func TestMovesPay(t *testing.T) {
	for _, c := range []struct {
		left  int // tokens to come
		bytes int // of a token
		moves bool
	}{
		{200, 1000, true},
		{200, 1 << 20, true},
		{200, 1 << 30, false},
		{2, 1 << 20, false},
	} {
		l := splitLimits(16, 512)
		l.TokenBytes = c.bytes
		w := newMachine(t, Config{Limits: l}, 1)
		for i := range 16 {
			w.add(Request{ID: ID(i + 1), Prompt: prompt(uint64(i), 64), MaxTokens: 400})
		}
		w.until("all decode", func() bool { return w.decoding() == 16 })
		for _, q := range w.s.slots[:16] {
			q.limit = len(q.tokens) + c.left
		}
		for id := ID(2); id <= 12; id++ { // leaves slots 0 and 12 to 15
			w.take(w.s.Cancel(id, w.now))
		}
		w.step()
		if moved := w.f.Moves > 0; moved != c.moves {
			t.Errorf("%+v: %d moves", c, w.f.Moves)
		}
		w.run()
	}
}

// TestSlotsAreReused: requests that follow each other in a slot answer as if
// alone.
func TestSlotsAreReused(t *testing.T) {
	w := newWorld(t, Config{Limits: splitLimits(3, 96)})
	var all []Request
	for i := range 40 {
		r := Request{ID: ID(i + 1), Tenant: fmt.Sprint(i % 4), Prompt: prompt(uint64(i), 1+i*2), MaxTokens: 1 + i%17}
		all = append(all, r)
		w.add(r)
	}
	w.run()
	for _, r := range all {
		w.expect(r)
	}
}

// decoding counts the sequences that the next step gives a token.
func (w *world) decoding() int {
	n := 0
	for _, q := range w.s.slots {
		if q != nil && q.decodes() {
			n++
		}
	}
	return n
}
