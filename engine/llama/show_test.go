package llama

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"llamero/cache/store"
	"llamero/engine"
	"llamero/scheduler/loop"
)

// TestShowOneStream prints what a token of a single stream costs through engine,
// scheduler and loop, against the plain loop, in alternating rounds of one run.
func TestShowOneStream(t *testing.T) {
	if !show {
		t.Skip("a measurement: LLAMERO_SHOW=1 runs it")
	}
	lib, model := files(t)
	const rounds, tokens = 7, 160
	raw := openPlain(t, lib, model, 1024, 512)
	e, err := Open(Options{Lib: lib, Model: model, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	l, err := loop.New(e, loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tok := openTokenizer(t)
	prompt, err := tok.encode(samePrompt(4), true, true)
	if err != nil {
		t.Fatal(err)
	}
	// The time between the first token and the last.
	plainRound := func() float64 {
		raw.reset()
		raw.feed(prompt...)
		start := time.Now()
		for range tokens - 1 {
			raw.feed(raw.best())
		}
		return time.Since(start).Seconds() * 1e3 / (tokens - 1)
	}
	loopRound := func() float64 {
		s := submit(t, l, prompt, tokens)
		var first, last time.Time
		n := 0
		for {
			events, err := s.Next(context.Background())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				if len(ev.Tokens) > 0 {
					last = time.Now()
					if n == 0 {
						first = last
					}
					n += len(ev.Tokens)
				}
			}
		}
		if n != tokens {
			t.Fatalf("%d tokens", n)
		}
		return last.Sub(first).Seconds() * 1e3 / (tokens - 1)
	}
	var ours, theirs, ratios []float64
	for i := range rounds {
		var a, b float64
		if i%2 == 0 {
			a, b = plainRound(), loopRound()
		} else {
			b, a = loopRound(), plainRound()
		}
		theirs, ours, ratios = append(theirs, a), append(ours, b), append(ratios, b/a)
	}
	for _, x := range [][]float64{ours, theirs, ratios} {
		slices.Sort(x)
	}
	t.Logf("one stream, ms a token, %d rounds, min/median/max: llamero %.2f/%.2f/%.2f, plain loop %.2f/%.2f/%.2f, ratio %.3f/%.3f/%.3f",
		rounds, ours[0], ours[rounds/2], ours[rounds-1], theirs[0], theirs[rounds/2], theirs[rounds-1],
		ratios[0], ratios[rounds/2], ratios[rounds-1])
}

// TestShowWidths prints what a decode pass costs by its width and depth, and what
// a prompt chunk costs by its length and depth: what the scheduler's cost model
// stands on.
func TestShowWidths(t *testing.T) {
	if !show {
		t.Skip("a measurement: LLAMERO_SHOW=1 runs it")
	}
	lib, model := files(t)
	e, err := Open(Options{Lib: lib, Model: model, Slots: 32, SlotTokens: 2048, Layout: engine.Split, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := driver{t: t, e: e}
	best := func(n int, p engine.Pass) float64 {
		least := int64(1 << 62)
		for range n {
			least = min(least, d.step(engine.Plan{Passes: []engine.Pass{p}}).Nanos)
		}
		return float64(least) / 1e6
	}
	idle := func(kind engine.PassKind, slots []int, n int) engine.Pass {
		p := engine.Pass{Kind: kind}
		for _, s := range slots {
			p.Rows = append(p.Rows, engine.Row{Slot: int32(s), Pos: int32(len(e.ledger.Slot(int32(s)).Tokens)), Tokens: make([]engine.Token, n), Idle: true})
		}
		return p
	}
	upTo := func(n int) []int {
		s := make([]int, n)
		for i := range s {
			s[i] = i
		}
		return s
	}
	fill := func(slot, n int) {
		d.open(slot, n)
		for done := 0; done < n; done += 256 {
			c := min(256, n-done)
			tokens := make([]engine.Token, c)
			for i := range tokens {
				tokens[i] = engine.Token(1000 + (done+i)*7919%40000)
			}
			d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Slot: int32(slot), Pos: int32(done), Tokens: tokens}}}}})
		}
	}
	for _, depth := range []int{0, 256, 768} {
		if depth > 0 {
			d.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0})
			fill(0, depth)
		}
		for _, c := range []int{16, 32, 48, 56, 63, 64, 72, 96, 128, 256, 512} {
			ms := best(5, idle(engine.PassPrefill, []int{0}, c))
			t.Logf("chunk of %3d at depth %3d: %6.1f ms, %.2f a token", c, depth, ms, ms/float64(c))
		}
	}
	d.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0})
	for _, w := range []int{1, 2, 3, 4, 7, 8, 11, 12, 15, 16, 31, 32} {
		t.Logf("width %2d, depth    0: %6.1f ms", w, best(7, idle(engine.PassDecode, upTo(w), 1)))
	}
	fill(7, 1024)
	t.Logf("width  8, one slot at 1024, others empty: %6.1f ms", best(7, idle(engine.PassDecode, upTo(8), 1)))
	for s := range 7 {
		fill(s, 1024)
	}
	t.Logf("width  1, depth 1024: %6.1f ms", best(7, idle(engine.PassDecode, upTo(1), 1)))
	t.Logf("width  8, depth 1024: %6.1f ms", best(7, idle(engine.PassDecode, upTo(8), 1)))
	start := time.Now()
	d.edit(engine.Edit{Kind: engine.EditMove, Slot: 7, To: 20})
	t.Logf("move of 1024 tokens: %.1f ms cold", time.Since(start).Seconds()*1e3)
	start = time.Now()
	d.edit(engine.Edit{Kind: engine.EditMove, Slot: 20, To: 7})
	t.Logf("move of 1024 tokens: %.1f ms warm", time.Since(start).Seconds()*1e3)
}

// TestShowPages prints what publishing and restoring a prefix costs, against copying
// as many bytes in memory.
func TestShowPages(t *testing.T) {
	if !show {
		t.Skip("a measurement: LLAMERO_SHOW=1 runs it")
	}
	lib, model := files(t)
	const tokens = 1024
	slab, err := store.NewSlab(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		e, err := Open(Options{Lib: lib, Model: model, Slots: 32, SlotTokens: 2048, Layout: layout, Threads: 2, Slab: slab})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Unpaged(); err != nil {
			t.Fatal(err)
		}
		d := driver{t: t, e: e}
		d.open(0, tokens)
		ids := make([]engine.Token, tokens)
		for i := range ids {
			ids[i] = engine.Token(1000 + i*7919%40000)
		}
		for at := 0; at < tokens; at += 256 {
			d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Pos: int32(at), Tokens: ids[at : at+256]}}}}})
		}
		n := tokens / e.limits.PageTokens
		pages := func(first int) []int32 {
			out := make([]int32, n)
			for i := range out {
				out[i] = int32(first + i)
			}
			return out
		}
		bytes := float64(n * e.limits.PageBytes)
		timed := func(what string, f func()) {
			start := time.Now()
			f()
			took := time.Since(start)
			t.Logf("%s, %s: %.1f ms, %.1f GB/s", layout, what, took.Seconds()*1e3, bytes/took.Seconds()/1e9)
		}
		for round := range 3 {
			timed(fmt.Sprintf("publish %d tokens, memory not touched before", tokens), func() {
				d.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: pages((round + 1) * n)})
			})
			timed("publish, warm", func() { d.edit(engine.Edit{Kind: engine.EditSave, Slot: 0, Pages: pages(n)}) })
			timed("  of that, reading the slot", func() {
				if _, err := e.read(0); err != nil {
					t.Fatal(err)
				}
			})
			slot := round + 1
			d.open(slot, tokens)
			timed("restore", func() {
				d.edit(engine.Edit{Kind: engine.EditRestore, Slot: int32(slot), Tokens: ids, Pages: pages(n)})
			})
			d.open(slot+8, tokens)
			timed("restore the same again", func() {
				d.edit(engine.Edit{Kind: engine.EditRestore, Slot: int32(slot + 8), Tokens: ids, Pages: pages(n)})
			})
			a, b := slab[:int(bytes)], make([]byte, int(bytes))
			copy(b, a)
			timed("copy in memory", func() { copy(b, a) })
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
