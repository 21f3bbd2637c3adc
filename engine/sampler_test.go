package engine

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var negInf = float32(math.Inf(-1))

func softmax(x []float32, temperature float64) []float64 {
	p := make([]float64, len(x))
	peak := float64(slices.Max(x))
	var sum float64
	for i, v := range x {
		p[i] = math.Exp((float64(v) - peak) / temperature)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func TestGreedy(t *testing.T) {
	s := NewSampler(6)
	for _, c := range []struct {
		name    string
		logits  []float32
		p       Sampling
		history []Token
		prompt  int
		want    Token
	}{
		{"plain", []float32{0, 1, 5, 2, 0, 0}, Sampling{}, nil, 0, 2},
		{"the first of equals", []float32{0, 5, 1, 5, 5, 0}, Sampling{}, nil, 0, 1},
		{"a bias lifts", []float32{0, 1, 5, 2, 0, 0}, Sampling{Bias: []Bias{{4, 6}}}, nil, 0, 4},
		{"a bias bans", []float32{0, 1, 5, 2, 0, 0}, Sampling{Bias: []Bias{{2, negInf}}}, nil, 0, 3},
		{"truncations do not matter", []float32{0, 1, 5, 2, 0, 0}, Sampling{TopP: 0.1, TopK: 1, MinP: 1}, nil, 0, 2},
		{"presence counts the answer", []float32{0, 1, 5, 4, 0, 0}, Sampling{Presence: 2}, []Token{3, 2}, 1, 3},
		{"presence spares the prompt", []float32{0, 1, 5, 4, 0, 0}, Sampling{Presence: 2}, []Token{3, 2}, 2, 2},
		{"frequency counts each", []float32{0, 1, 5, 4, 0, 0}, Sampling{Frequency: 0.6}, []Token{2, 2}, 0, 3},
		{"frequency counts once", []float32{0, 1, 5, 4, 0, 0}, Sampling{Frequency: 0.6}, []Token{2}, 0, 2},
		{"repetition counts the prompt", []float32{0, 1, 5, 4, 0, 0}, Sampling{Repetition: 2}, []Token{2}, 1, 3},
		{"repetition multiplies what is negative", []float32{-9, -9, -2, -3, -9, -9}, Sampling{Repetition: 2}, []Token{2, 2}, 0, 3},
		{"repetition below one attracts", []float32{0, 1, 5, 4, 0, 0}, Sampling{Repetition: 0.5}, []Token{3}, 0, 3},
		{"everything is banned", []float32{negInf, negInf, negInf, negInf, negInf, negInf}, Sampling{}, nil, 0, 0},
	} {
		raw := slices.Clone(c.logits)
		if got := s.Sample(raw, &c.p, c.history, c.prompt).Token; got != c.want {
			t.Errorf("%s: token %d, want %d", c.name, got, c.want)
		}
		if !slices.Equal(raw, c.logits) {
			t.Errorf("%s: the logits have been changed", c.name)
		}
	}
}

// TestAdjust compares bias and penalties with their formulas, token by token.
func TestAdjust(t *testing.T) {
	const vocab = 50
	r := rand.New(rand.NewPCG(3, 3))
	s := NewSampler(vocab)
	for range 500 {
		raw := randomLogits(r, vocab, 4)
		history := make([]Token, r.IntN(80))
		for i := range history {
			history[i] = Token(r.IntN(vocab))
		}
		prompt := r.IntN(100)
		p := Sampling{Presence: float32(r.IntN(3)) * 0.7, Frequency: float32(r.IntN(3)) * -0.3, Repetition: float32(r.IntN(4)) * 0.6}
		for range r.IntN(4) {
			p.Bias = append(p.Bias, Bias{Token(r.IntN(vocab)), float32(r.NormFloat64())})
		}
		got := s.adjust(raw, &p, history, prompt)
		generated := history[min(prompt, len(history)):]
		for i := range raw {
			want := float64(raw[i])
			for _, b := range p.Bias {
				if int(b.Token) == i {
					want += float64(b.Add)
				}
			}
			if p.Repetition != 0 && slices.Contains(history, Token(i)) {
				if want > 0 {
					want /= float64(p.Repetition)
				} else {
					want *= float64(p.Repetition)
				}
			}
			n := 0
			for _, g := range generated {
				if int(g) == i {
					n++
				}
			}
			if n > 0 {
				want -= float64(p.Presence) + float64(p.Frequency)*float64(n)
			}
			if math.Abs(float64(got[i])-want) > 1e-4 {
				t.Fatalf("%+v: logit %d is %v, want %v", p, i, got[i], want)
			}
		}
		if i := slices.IndexFunc(s.count, func(n int32) bool { return n != 0 }); i >= 0 {
			t.Fatalf("a count of token %d is left behind", i)
		}
	}
}

// TestSampleFollowsSoftmax draws with the keyed numbers of successive positions.
func TestSampleFollowsSoftmax(t *testing.T) {
	const n = 50_000
	r := rand.New(rand.NewPCG(4, 4))
	for _, c := range []struct {
		name  string
		vocab int
		p     Sampling
	}{
		{"temperature 1", 20, Sampling{Temperature: 1}},
		{"temperature 0.6", 20, Sampling{Temperature: 0.6}},
		{"temperature 2, several blocks", 1000, Sampling{Temperature: 2}},
		{"a ban", 20, Sampling{Temperature: 1, Bias: []Bias{{3, negInf}, {19, 1}}}},
		{"top_k", 300, Sampling{Temperature: 1, TopK: 7}},
		{"top_p", 300, Sampling{Temperature: 1, TopP: 0.7}},
		{"min_p", 300, Sampling{Temperature: 1, MinP: 0.2}},
	} {
		logits := randomLogits(r, c.vocab, 1.5)
		s := NewSampler(c.vocab)
		adjusted := slices.Clone(s.adjust(logits, &c.p, nil, 0))
		kept, _ := oracle(adjusted, &c.p, 0)
		want := softmax(adjusted, float64(c.p.Temperature))
		var mass float64
		for i := range want {
			if !kept[Token(i)] {
				want[i] = 0
			}
			mass += want[i]
		}
		for i := range want {
			want[i] *= n / mass
		}
		counts := make([]int, c.vocab)
		c.p.Seed = 11
		history := make([]Token, n)
		for i := range n {
			counts[s.Sample(logits, &c.p, history[:i], 0).Token]++
		}
		chiSquare(t, c.name, counts, want)
	}
}

// TestSampleIsKeyed: the same key draws the same token, whichever sampler does it
// and whatever it did before; another seed, choice or position draws anew.
func TestSampleIsKeyed(t *testing.T) {
	const vocab = 2000
	r := rand.New(rand.NewPCG(5, 5))
	pool := NewPool(vocab)
	logits := randomLogits(r, vocab, 0.1)
	history := make([]Token, 64)
	for _, p := range []Sampling{{Temperature: 1}, {Temperature: 1, TopP: 0.9}, {Temperature: 1, TopK: 100}, {Temperature: 1, MinP: 0.01}, {Temperature: 1, TypicalP: 0.8}} {
		draw := func(s *Sampler, p Sampling, pos int) Token { return s.Sample(logits, &p, history[:pos], 0).Token }
		want := draw(NewSampler(vocab), p, 9)
		var got [40]Token
		pool.Each(len(got), func(s *Sampler, i int) {
			draw(s, Sampling{Temperature: 0.5, TopK: 3, Seed: uint64(i)}, i) // something else in between
			got[i] = draw(s, p, 9)
		})
		for i, x := range got {
			if x != want {
				t.Errorf("%+v: call %d drew %d, another %d", p, i, x, want)
			}
		}
		seed, choice := p, p
		seed.Seed, choice.Choice = 1, 1
		s := NewSampler(vocab)
		same := 0
		for pos := range 50 {
			a := draw(s, p, pos)
			for _, b := range []Token{draw(s, seed, pos), draw(s, choice, pos), draw(s, p, pos+1)} {
				if a == b {
					same++
				}
			}
		}
		if same > 20 { // of 150, over at least 100 nearly equal tokens
			t.Errorf("%+v: %d of 150 draws with another key gave the same token", p, same)
		}
	}
}

func TestSampleAtTheEdges(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	banned := []float32{negInf, negInf, negInf, negInf}
	truncations := []Sampling{
		{}, {TopK: 1}, {TopK: 3}, {TopP: 0.5}, {MinP: 0.5}, {MinP: 1}, {MinP: math.SmallestNonzeroFloat32}, {TypicalP: 0.5},
		{TopK: 3, TopP: 0.5, MinP: 0.1, TypicalP: 0.5}, {TopP: 0.5, MinP: 0.5}, {TopP: math.SmallestNonzeroFloat32}, {TopK: 3, TypicalP: 0.9},
	}
	for _, c := range []struct {
		name        string
		logits      []float32
		temperature float32
		allowed     []Token
	}{
		{"everything is banned", banned, 1, []Token{0, 1, 2, 3}},
		{"one is left", []float32{negInf, negInf, 3, negInf}, 1, []Token{2}},
		{"a small temperature", []float32{1, 2, 1.999, 0}, 1e-6, []Token{1}},
		{"a tiny temperature", []float32{1, 2, 1.999, 0}, 1e-38, []Token{1}},
		{"a denormal temperature", []float32{1, 2, 1.999, 0}, math.SmallestNonzeroFloat32, []Token{1}},
		{"NaN beside numbers", []float32{nan, 2, negInf, nan}, 1, []Token{1}},
		{"nothing but NaN", []float32{nan, nan, nan, nan}, 1, []Token{0, 1, 2, 3}},
		{"NaN and bans", []float32{nan, negInf, nan, negInf}, 1, []Token{0, 1, 2, 3}},
		{"an infinite logit", []float32{1, 2, inf, 3}, 1, []Token{2}},
		{"huge logits", []float32{-3e38, 3e38, -3e38, -3e38}, 1, []Token{1}},
		{"a vocabulary of one", []float32{5}, 1, []Token{0}},
	} {
		s := NewSampler(len(c.logits))
		for _, p := range truncations {
			p.Temperature = c.temperature
			for seed := range uint64(20) {
				p.Seed = seed
				p.LogProbs = int32(seed % 4)
				if got := s.Sample(c.logits, &p, nil, 0); !slices.Contains(c.allowed, got.Token) {
					t.Errorf("%s, %+v: token %d", c.name, p, got.Token)
				}
			}
		}
	}
}

func TestLogProbs(t *testing.T) {
	const vocab = 300
	r := rand.New(rand.NewPCG(6, 6))
	s := NewSampler(vocab)
	for range 100 {
		raw := randomLogits(r, vocab, 3)
		want := softmax(raw, 1)
		// Penalties, bias and temperature change what is drawn, not what is reported.
		p := Sampling{Temperature: 0.7, Seed: r.Uint64(), Presence: 1, Bias: []Bias{{2, -3}}, LogProbs: MaxLogProbs}
		got := s.Sample(raw, &p, []Token{1, 2, 3}, 0)
		if d := math.Abs(math.Exp(float64(got.LogProb)) - want[got.Token]); d > 1e-5 {
			t.Fatalf("token %d has probability %v, reported %v", got.Token, want[got.Token], math.Exp(float64(got.LogProb)))
		}
		if len(got.Top) != MaxLogProbs-1 {
			t.Fatalf("%d alternatives, want %d", len(got.Top), MaxLogProbs-1)
		}
		order := make([]Token, vocab)
		for i := range order {
			order[i] = Token(i)
		}
		slices.SortStableFunc(order, func(a, b Token) int {
			switch {
			case raw[a] > raw[b]:
				return -1
			case raw[a] < raw[b]:
				return 1
			}
			return 0
		})
		for i, top := range got.Top {
			if top.Token != order[i] || math.Abs(math.Exp(float64(top.LogProb))-want[top.Token]) > 1e-5 {
				t.Fatalf("alternative %d is %+v, want token %d of probability %v", i, top, order[i], want[order[i]])
			}
		}
		var sum float64
		for i := range raw {
			sum += math.Exp(float64(s.Score(raw, Token(i), 1).LogProb))
		}
		if math.Abs(sum-1) > 1e-4 {
			t.Fatalf("probabilities sum to %v", sum)
		}
	}
	if got := s.Score(make([]float32, vocab), 3, 0); got.Token != 3 || got.LogProb != 0 || got.Top != nil {
		t.Errorf("log-probabilities that nobody asked for: %+v", got)
	}
	small := NewSampler(3)
	if got := small.Score([]float32{1, 2, 3}, 0, MaxLogProbs); len(got.Top) != 3 {
		t.Errorf("%d alternatives in a vocabulary of 3", len(got.Top))
	}
	nan := float32(math.NaN())
	if got := small.Score([]float32{nan, 2, 3}, 1, 3); len(got.Top) != 2 || got.Top[0].Token != 2 || got.Top[1].Token != 1 {
		t.Errorf("alternatives beside NaN: %+v", got.Top)
	}
}

func TestPoolCallsEachOnce(t *testing.T) {
	pool := NewPool(4)
	for _, n := range []int{0, 1, 2, 3, 64} {
		calls := make([]int, n)
		pool.Each(n, func(_ *Sampler, i int) { calls[i]++ })
		for i, c := range calls {
			if c != 1 {
				t.Errorf("of %d: %d was called %d times", n, i, c)
			}
		}
	}
}

func TestSamplingCheck(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		p    Sampling
		want string // part of the error; "" for none
	}{
		{Sampling{}, ""},
		{Sampling{Temperature: 2, TopP: 1, MinP: 1, TypicalP: 1, TopK: 1 << 30, Presence: -2, Frequency: 2, Repetition: 1.5, LogProbs: MaxLogProbs, Bias: []Bias{{9, negInf}, {0, -100}}}, ""},
		{Sampling{Temperature: -1}, "temperature"},
		{Sampling{Temperature: nan}, "temperature"},
		{Sampling{Temperature: inf}, "temperature"},
		{Sampling{TopP: 1.1}, "top_p"},
		{Sampling{TopP: nan}, "top_p"},
		{Sampling{MinP: -0.1}, "min_p"},
		{Sampling{TypicalP: 2}, "typical_p"},
		{Sampling{Presence: -101}, "presence_penalty"},
		{Sampling{Frequency: inf}, "frequency_penalty"},
		{Sampling{Repetition: -1}, "repetition_penalty"},
		{Sampling{TopK: -1}, "top_k"},
		{Sampling{LogProbs: -1}, "log-probabilities"},
		{Sampling{LogProbs: MaxLogProbs + 1}, "log-probabilities"},
		{Sampling{Bias: []Bias{{-1, 0}}}, "bias"},
		{Sampling{Bias: []Bias{{10, 0}}}, "bias"},
		{Sampling{Bias: []Bias{{1, nan}}}, "bias"},
		{Sampling{Bias: []Bias{{1, inf}}}, "bias"},
	} {
		err := c.p.Check(10)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error that names %q", c.p, err, c.want)
		}
	}
}
