package engine

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// FuzzSampler: whatever bits the logits have, a setting that Check accepts draws a
// token of the vocabulary, the same one twice, and never one that was banned while
// another was left.
func FuzzSampler(f *testing.F) {
	floats := func(x ...float32) []byte {
		var b []byte
		for _, v := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	f.Add(floats(1, 2, 3), float32(1), float32(0.9), int32(2), float32(0.1), float32(0.5), float32(1), uint64(1))
	f.Add(floats(nan, -inf, 0), float32(1), float32(0), int32(0), float32(0.5), float32(0), float32(0), uint64(2))
	f.Add(floats(inf, inf, nan), float32(1e-40), float32(0.5), int32(1), float32(0), float32(0), float32(0), uint64(3))
	f.Add(floats(-3e38, 3e38, 0, float32(math.Copysign(0, -1))), float32(100), float32(1e-30), int32(0), float32(1e-45), float32(0.99), float32(1e-45), uint64(4))
	f.Add(floats(1, -3.4028235e38), float32(22), float32(0.9), int32(1), float32(0.1), float32(0.5), float32(1), uint64(142))
	f.Fuzz(func(t *testing.T, bits []byte, temperature, topP float32, topK int32, minP, typicalP, repetition float32, seed uint64) {
		n := min(len(bits)/4, 2048)
		if n == 0 {
			return
		}
		raw := make([]float32, n)
		for i := range raw {
			raw[i] = math.Float32frombits(binary.LittleEndian.Uint32(bits[4*i:]))
		}
		before := slices.Clone(raw)
		history := []Token{Token(seed % uint64(n)), 0, Token(n - 1)}
		ban := Token(seed >> 8 % uint64(n))
		p := Sampling{
			Temperature: temperature, TopP: topP, TopK: topK, MinP: minP, TypicalP: typicalP, Repetition: repetition,
			Presence: 0.5, Frequency: -0.5, Seed: seed, LogProbs: int32(seed % (MaxLogProbs + 1)), Bias: []Bias{{ban, negInf}},
		}
		if p.Check(n) != nil {
			return
		}
		got := NewSampler(n).Sample(raw, &p, history, 1)
		if got.Token < 0 || int(got.Token) >= n {
			t.Fatalf("token %d of %d", got.Token, n)
		}
		if len(got.Top) > max(0, int(p.LogProbs)-1) {
			t.Fatalf("%d alternatives for %d", len(got.Top), p.LogProbs)
		}
		if again := NewSampler(n).Sample(raw, &p, history, 1); again.Token != got.Token {
			t.Fatalf("token %d, then %d", got.Token, again.Token)
		}
		for i := range raw {
			if math.Float32bits(raw[i]) != math.Float32bits(before[i]) {
				t.Fatal("the logits have been changed")
			}
		}
		left := slices.ContainsFunc(raw, func(x float32) bool { return x > -1e30 && x < 1e30 })
		tame := p.Repetition == 0 || p.Repetition > 1e-3
		if finite(raw[ban]) && left && tame && got.Token == ban && othersFinite(raw, ban) {
			t.Fatalf("the banned token %d was drawn", ban)
		}
	})
}

func finite(x float32) bool { return x-x == 0 }

// othersFinite reports whether a token other than t has an ordinary logit.
func othersFinite(raw []float32, t Token) bool {
	for i, x := range raw {
		if Token(i) != t && x > -1e30 && x < 1e30 {
			return true
		}
	}
	return false
}
