package enginetest

import (
	"fmt"
	"math"

	"llamero/engine"
	"llamero/tokenizer"
)

// Cases about passes: their shapes, and what rows yield.

// output: what a step reports besides tokens.
func (s *suite) output() {
	s.open(0, greedy)
	s.open(1, engine.Sampling{})
	a, b := s.head(0), s.head(1)
	outs, err := s.run(engine.Plan{
		Passes: []engine.Pass{
			{Kind: engine.PassPrefill, Rows: []engine.Row{{Slot: 0, Tokens: a}}},
			{Kind: engine.PassDecode, Rows: []engine.Row{sampling(0, head, s.tail(0, 0)), idle(1, 0, 1)}},
			{Kind: engine.PassPrefill, Rows: []engine.Row{sampling(1, 0, b)}},
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	if len(outs) != 3 {
		s.Fatalf("%d outputs of 3 passes", len(outs))
	}
	for i, o := range outs {
		if o.Step != s.step || o.Pass != i {
			s.Errorf("output %d says step %d, pass %d; it is step %d", i, o.Step, o.Pass, s.step)
		}
		if o.Nanos <= 0 {
			s.Errorf("pass %d took %d ns", i, o.Nanos)
		}
		for j, r := range o.Rows {
			if want := []int32{0, int32(j), 1}[i]; r.Slot != want {
				s.Errorf("pass %d, row %d is of slot %d, want %d", i, j, r.Slot, want)
			}
		}
	}
	if r := outs[0].Rows[0]; len(r.Sampled)+len(r.Scores) > 0 {
		s.Errorf("a row that asked for nothing has %+v", r)
	}
	if r := outs[1].Rows[1]; len(r.Sampled)+len(r.Scores) > 0 {
		s.Errorf("an idle row has %+v", r)
	}
	s.same("after a prompt that did not sample", s.drawn(outs[1].Rows[0]), s.base[0][1], false)
	if got := s.drawn(outs[2].Rows[0]); len(got.Top) > 0 {
		s.Errorf("log-probabilities that nobody asked for: %+v", got)
	}
	if s.opt.Epsilon == 0 && s.drawn(outs[2].Rows[0]).Token != s.base[1][0].Token {
		s.Error("log-probabilities change what is drawn")
	}
}

// widths: a decode pass of every width, two texts alternating, each row yields
// what its own text yields alone.
func (s *suite) widths() {
	most := min(maxWidth, s.l.Slots, s.l.PassTokens, s.l.PassOutputs)
	used := 0
	for i := range most {
		if used += head + 1; used > s.l.PoolTokens {
			most = i
			break
		}
		s.prompt(i, i%2)
	}
	s.Logf("up to %d of %d rows", most, maxWidth)
	for w := 1; w <= most; w++ {
		rows := make([]engine.Row, w)
		for i := range rows {
			rows[i] = sampling(i, head, s.tail(i%2, 0))
		}
		for i, r := range s.pass(rows...) {
			what := fmt.Sprintf("width %d, row %d", w, i)
			s.same(what, s.drawn(r), s.base[i%2][1], w == 1)
			s.differ(what, s.drawn(r), s.base[1-i%2][1])
		}
		if !s.l.Trims { // once is all there is
			return
		}
		for i := range w {
			s.edit(engine.Edit{Kind: engine.EditTrim, Slot: int32(i), Len: head})
		}
	}
}

// chunks: a prompt in one, two or three pieces.
func (s *suite) chunks() {
	for i, ends := range [][]int{{head}, {head / 2, head}, {16, 17, head}, {1, head - 1, head}} {
		slot := i % s.l.Slots
		s.edit(engine.Edit{Kind: engine.EditDrop, Slot: int32(slot)})
		s.open(slot, greedy)
		at := 0
		for _, end := range ends[:len(ends)-1] {
			s.pass(engine.Row{Slot: int32(slot), Pos: int32(at), Tokens: s.head(1)[at:end]})
			at = end
		}
		what := fmt.Sprintf("chunks that end at %v", ends)
		got := s.feed(slot, at, s.head(1)[at:])
		s.same(what, got, s.base[1][0], len(ends) == 1)
		s.differ(what, got, s.base[0][0])
		s.goOn(what, slot, 1, 0, len(ends) == 1)
	}
}

// sharedPrefill: two prompts in one pass.
func (s *suite) sharedPrefill() {
	if s.l.PassTokens < 2*head {
		s.Skipf("a pass takes %d tokens; %d are needed", s.l.PassTokens, 2*head)
	}
	s.open(1, greedy)
	s.open(2, greedy)
	out := s.pass(sampling(1, 0, s.head(0)), sampling(2, 0, s.head(1)))
	for p, r := range out {
		s.same("two prompts in a pass", s.drawn(r), s.base[p][0], false)
		s.differ("two prompts in a pass", s.drawn(r), s.base[1-p][0])
	}
	s.goOn("after two prompts in a pass", 1, 0, 0, false)
	s.goOn("after two prompts in a pass", 2, 1, 0, false)
}

// scores: the log-probability of a token is the same, drawn or given.
func (s *suite) scores() {
	text := append([]engine.Token{}, s.head(0)...)
	drawn := []engine.Sampled{s.prompt(0, 0)}
	for range 4 {
		last := drawn[len(drawn)-1].Token
		drawn = append(drawn, s.feed(0, len(text), []engine.Token{last}))
		text = append(text, last)
	}
	s.open(1, engine.Sampling{Temperature: 1, TopK: 1, LogProbs: 1}) // what is drawn does not matter
	s.pass(engine.Row{Slot: 1, Tokens: text[:head-8]})
	chunk := text[head-8:]
	if s.l.PassOutputs < len(chunk) {
		s.Skipf("a pass has %d outputs; %d are needed", s.l.PassOutputs, len(chunk))
	}
	next := drawn[len(drawn)-1].Token
	out := s.pass(engine.Row{Slot: 1, Pos: head - 8, Tokens: chunk, Score: true, Next: next, Sample: true})[0]
	want := append(append([]engine.Token{}, chunk[1:]...), next)
	if len(out.Scores) != len(want) || len(out.Sampled) != 1 {
		s.Fatalf("%d scores and %d samples of a row of %d tokens", len(out.Scores), len(out.Sampled), len(chunk))
	}
	for i, x := range out.Scores {
		if x.Token != want[i] || !(x.LogProb <= 0) {
			s.Errorf("score %d is %v of token %d; it should be of %d", i, x.LogProb, x.Token, want[i])
		}
		if at := i - 7; at >= 0 {
			if d := math.Abs(float64(x.LogProb - drawn[at].LogProb)); d > s.opt.Epsilon {
				s.Errorf("token %d: scored %v, drawn with %v", x.Token, x.LogProb, drawn[at].LogProb)
			}
		}
	}
	s.open(2, greedy)
	out = s.pass(engine.Row{Slot: 2, Tokens: text[:8], Score: true, Next: tokenizer.None})[0]
	if len(out.Scores) != 7 || len(out.Sampled) != 0 {
		s.Errorf("%d scores and %d samples of a row of 8 tokens without a next one", len(out.Scores), len(out.Sampled))
	}
}

// idleRows leave no trace, wherever they stand.
func (s *suite) idleRows() {
	s.prompt(0, 0)
	s.prompt(1, 1)
	rows := []engine.Row{idle(2, 0, 1), idle(3, 0, 1)}
	if s.l.Trims {
		rows = append([]engine.Row{idle(0, head, 1), idle(1, head, 1)}, rows...)
	}
	s.pass(rows...)
	if s.l.Trims {
		s.pass(idle(1, head, 5))
	}
	if s.l.Scratch > 0 {
		s.pass(idle(s.l.Slots, 0, 1))
	}
	s.pass(sampling(0, head, s.tail(0, 0)))
	if s.l.Trims {
		rows = []engine.Row{idle(0, head+1, 1), sampling(1, head, s.tail(1, 0)), idle(2, 0, 1)}
	} else {
		rows = []engine.Row{sampling(1, head, s.tail(1, 0)), idle(2, 0, 1)}
	}
	out := s.pass(rows...)
	got := s.drawn(out[len(out)-2])
	s.same("beside idle rows", got, s.base[1][1], false)
	s.differ("beside idle rows", got, s.base[0][1])
	s.goOn("after idle rows", 0, 0, 1, false)
	s.goOn("after idle rows", 1, 1, 1, false)
	s.prompt(2, 0)
	s.goOn("in a slot that was idle", 2, 0, 0, false)
}

// keyedDraws: the same key draws the same token in any slot; others draw others.
func (s *suite) keyedDraws() {
	key := engine.Sampling{Temperature: 1.5, Seed: 77, LogProbs: 1}
	other, choice := key, key
	other.Seed, choice.Choice = 78, 1
	var drawn [4][]engine.Token
	for slot, p := range []engine.Sampling{key, key, other, choice} {
		s.open(slot, p)
		drawn[slot] = append(drawn[slot], s.feed(slot, 0, s.head(0)).Token)
		for i := range tail {
			drawn[slot] = append(drawn[slot], s.feed(slot, head+i, s.tail(0, i)).Token)
		}
	}
	same := func(a, b []engine.Token) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
	if s.exact(true) && !same(drawn[0], drawn[1]) {
		s.Errorf("one key drew %v and %v", drawn[0], drawn[1])
	}
	if same(drawn[0], drawn[2]) || same(drawn[0], drawn[3]) {
		s.Errorf("another seed or choice drew the same: %v", drawn)
	}
}

// mixedSettings: each row of a pass is drawn by its own slot's settings.
func (s *suite) mixedSettings() {
	settings := []engine.Sampling{
		greedy,
		{Temperature: 1.5, Seed: 5, LogProbs: 3},
		{Temperature: 1.5, Seed: 6, LogProbs: 1},
	}
	var alone []engine.Sampled
	for _, p := range settings {
		s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 3})
		s.open(3, p)
		s.feed(3, 0, s.head(0))
		alone = append(alone, s.feed(3, head, s.tail(0, 0)))
	}
	rows := make([]engine.Row, len(settings))
	for i, p := range settings {
		s.open(i, p)
		s.feed(i, 0, s.head(0))
		rows[i] = sampling(i, head, s.tail(0, 0))
	}
	for i, r := range s.pass(rows...) {
		got := s.drawn(r)
		if len(got.Top) != len(alone[i].Top) {
			s.Errorf("row %d has %d alternatives, alone %d", i, len(got.Top), len(alone[i].Top))
		}
		if s.exact(false) && got.Token != alone[i].Token {
			s.Errorf("row %d drew %d, alone %d", i, got.Token, alone[i].Token)
		}
	}
}
