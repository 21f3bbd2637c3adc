package engine

import (
	"math/rand/v2"
	"testing"
)

// The vocabulary of SmolLM2, and logits spread like a model's.
const benchVocab = 49152

func BenchmarkSampler(b *testing.B) {
	logits := randomLogits(rand.New(rand.NewPCG(8, 8)), benchVocab, 3)
	history := make([]Token, 512)
	for i := range history {
		history[i] = Token(i * 7 % benchVocab)
	}
	for _, c := range []struct {
		name string
		p    Sampling
	}{
		{"greedy", Sampling{}},
		{"greedy-logprobs-20", Sampling{LogProbs: MaxLogProbs}},
		{"greedy-penalties", Sampling{Presence: 0.5, Repetition: 1.1}},
		{"temperature-1", Sampling{Temperature: 1}},
		{"top_p-0.9", Sampling{Temperature: 1, TopP: 0.9}},
		{"top_k-40", Sampling{Temperature: 1, TopK: 40}},
		{"min_p-0.05", Sampling{Temperature: 1, MinP: 0.05}},
		{"typical_p-0.9", Sampling{Temperature: 1, TypicalP: 0.9}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := NewSampler(benchVocab)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.p.Seed = uint64(i)
				s.Sample(logits, &c.p, history, 256)
			}
		})
	}
}

func BenchmarkPool32(b *testing.B) {
	logits := randomLogits(rand.New(rand.NewPCG(9, 9)), benchVocab, 3)
	p := Sampling{Temperature: 1, TopP: 0.9}
	pool := NewPool(benchVocab)
	for b.Loop() {
		pool.Each(32, func(s *Sampler, _ int) { s.Sample(logits, &p, nil, 0) })
	}
}
