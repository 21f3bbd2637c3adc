package enginetest

import (
	"fmt"
	"slices"

	"llamero/engine"
)

// Cases about guesses: tokens come sooner, and they are the same tokens.

// answer is what a slot draws after a text, one token at a time, up to where a pass of
// another shape might draw something else.
func (s *suite) answer(text []engine.Token, n int, p engine.Sampling) []engine.Sampled {
	s.Helper()
	s.edit(engine.Edit{Kind: engine.EditDrop})
	s.open(0, p)
	out := []engine.Sampled{s.feed(0, 0, text)}
	for len(out) < n {
		next := s.feed(0, len(text)+len(out)-1, []engine.Token{out[len(out)-1].Token})
		if top := next.Top; len(top) > 1 && float64(top[0].LogProb-top[1].LogProb) < 2*s.opt.Epsilon {
			break
		}
		out = append(out, next)
	}
	return out
}

// clearest is a part of a prompt with an answer of up to n tokens, and the answer: of
// some parts the one whose answer goes on longest.
func (s *suite) clearest(prompt, n int) (text []engine.Token, answer []engine.Sampled) {
	s.Helper()
	for cut := 0; cut < head/2 && len(answer) < n; cut++ {
		part := s.head(prompt)[:head-cut]
		if a := s.answer(part, n, greedy); len(a) > len(answer) {
			text, answer = part, a
		}
	}
	return text, answer
}

// wrong is a guess of so many tokens of which the first right ones are an answer's.
func (s *suite) wrong(answer []engine.Sampled, right, n int) []engine.Token {
	var guess []engine.Token
	for i := range n {
		t := answer[min(i, len(answer)-1)].Token
		if i >= right {
			t = (t + 1) % engine.Token(s.l.Vocab)
		}
		guess = append(guess, t)
	}
	return guess
}

// guesses: what was right of a guess is drawn, what was wrong leaves no trace.
func (s *suite) guesses() {
	if !s.l.Trims {
		s.Skip("slots cannot be trimmed")
	}
	const most = 6
	var texts [2][]engine.Token
	var answers [2][]engine.Sampled
	for p := range texts {
		texts[p], answers[p] = s.clearest(p, most)
	}
	longest := min(len(answers[0]), len(answers[1])) - 3
	if longest < 1 {
		s.Fatalf("the answers are clear for %d and %d tokens only", len(answers[0]), len(answers[1]))
	}
	s.clear()
	for right := range longest + 1 {
		for p := range answers {
			s.edit(engine.Edit{Kind: engine.EditDrop, Slot: int32(p + 1)})
			s.open(p+1, greedy)
			s.feed(p+1, 0, texts[p])
		}
		// One row guesses well, the other not at all.
		rows := make([]engine.Row, len(answers))
		rights := [2]int{right, 0}
		for p, a := range answers {
			rows[p] = sampling(p+1, len(texts[p]), []engine.Token{a[0].Token})
			rows[p].Guess = s.wrong(a[1:], rights[p], longest)
		}
		for p, r := range s.pass(rows...) {
			a := answers[p]
			what := fmt.Sprintf("%d of %d guessed tokens are right, prompt %d", rights[p], longest, p)
			if len(r.Sampled) != rights[p]+1 {
				s.Fatalf("%s: %d tokens were drawn", what, len(r.Sampled))
			}
			for i, got := range r.Sampled {
				s.same(what, got, a[1+i], false)
				if got.Token != a[1+i].Token {
					s.Errorf("%s: token %d of the answer is %d, not %d", what, 1+i, got.Token, a[1+i].Token)
				}
			}
			got := s.feed(p+1, len(texts[p])+1+rights[p], []engine.Token{a[1+rights[p]].Token})
			s.same(what+", the token after", got, a[2+rights[p]], false)
			s.differ(what+", the token after", got, s.base[1-p][0])
		}
	}
}

// guessesAndDraws: a guess does not change what chance draws.
func (s *suite) guessesAndDraws() {
	if !s.l.Trims {
		s.Skip("slots cannot be trimmed")
	}
	const drawn, width = 12, 3
	p := engine.Sampling{Temperature: 0.3, Seed: 9, Repetition: 1.3, Presence: 0.2}
	if s.opt.Epsilon > 0 {
		// A draw near a border may fall to its other side in a pass of another shape: only
		// one that chance hardly moves can be compared.
		p.Temperature = 0.02
	}
	plain := s.answer(s.head(0), drawn, p)
	s.clear()
	s.open(1, p)
	text := []engine.Token{s.feed(1, 0, s.head(0)).Token}
	for n := 0; len(text) < drawn; n++ {
		right := min(n%(width+1), len(plain)-len(text))
		row := sampling(1, head+len(text)-1, text[len(text)-1:])
		row.Guess = s.wrong(plain[min(len(text), len(plain)-1):], right, width)
		for _, x := range s.pass(row)[0].Sampled {
			text = append(text, x.Token)
		}
	}
	var want []engine.Token
	for _, x := range plain {
		want = append(want, x.Token)
	}
	if !slices.Equal(text[:drawn], want) {
		s.Errorf("with guesses %v were drawn, without %v", text[:drawn], want)
	}
}
