package engine

import "math"

// Sampling is how a request's tokens are drawn. The zero value is greedy without
// penalties.
//
// The order is: bias, penalties, then (unless greedy) temperature, top_k,
// typical_p, top_p, min_p, then one draw. Log-probabilities are those of the raw
// logits, before any of it.
type Sampling struct {
	Temperature float32 // 0: greedy
	TopP        float32 // 0 or 1: off
	TopK        int32   // 0: off
	MinP        float32 // 0: off
	TypicalP    float32 // 0 or 1: off
	Presence    float32 // OpenAI's presence_penalty, over generated tokens
	Frequency   float32 // OpenAI's frequency_penalty, over generated tokens
	Repetition  float32 // divides positive and multiplies negative logits of all earlier tokens; 0 or 1: off
	Bias        []Bias  // added to logits; -Inf bans a token
	Seed        uint64  // keys the random numbers, with Choice and the token's position
	Choice      int32   // which of a request's n answers this is
	LogProbs    int32   // 0: none; k: the token's own and the k-1 most probable ones'
}

// Bias is one entry of logit_bias.
type Bias struct {
	Token Token
	Add   float32
}

// MaxLogProbs is the most that Sampling.LogProbs may ask for.
const MaxLogProbs = 21

// Check refuses what the sampler cannot compute with: the last line of defence
// behind the API's own, narrower ranges.
func (s *Sampling) Check(vocab int) error {
	for _, f := range []struct {
		name   string
		v      float32
		lo, hi float32
	}{
		{"temperature", s.Temperature, 0, 100},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"typical_p", s.TypicalP, 0, 1},
		{"presence_penalty", s.Presence, -100, 100},
		{"frequency_penalty", s.Frequency, -100, 100},
		{"repetition_penalty", s.Repetition, 0, 100},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) { // NaN fails
			return planErr("%s %v is outside [%v, %v]", f.name, f.v, f.lo, f.hi)
		}
	}
	if s.TopK < 0 {
		return planErr("top_k %d is negative", s.TopK)
	}
	if s.LogProbs < 0 || s.LogProbs > MaxLogProbs {
		return planErr("log-probabilities of %d tokens; at most %d", s.LogProbs, MaxLogProbs)
	}
	for _, b := range s.Bias {
		if b.Token < 0 || int(b.Token) >= vocab {
			return planErr("a bias for token %d; the vocabulary has %d", b.Token, vocab)
		}
		if b.Add != b.Add || math.IsInf(float64(b.Add), 1) {
			return planErr("a bias of %v for token %d", b.Add, b.Token)
		}
	}
	return nil
}

// Keyed draws: the random number of a token depends on its request's seed, the
// choice and its position alone, so an answer that is computed again (after a
// preemption, a crash, on another replica) continues as it would have.

// Draw returns draw number k of a token, uniform in [0, 1).
func Draw(seed uint64, choice, pos, k int32) float64 {
	x := mix(seed + 0x9e3779b97f4a7c15)
	x = mix(x ^ uint64(uint32(choice))*0xd1342543de82ef95)
	x = mix(x ^ uint64(uint32(pos))*0x2545f4914f6cdd1d)
	x = mix(x ^ uint64(uint32(k))*0x9e6c63d0876a9a47)
	return float64(x>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
