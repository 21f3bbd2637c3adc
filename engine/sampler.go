package engine

import (
	"math"
	"slices"
)

// Sampler draws tokens from logits. It owns scratch memory of the vocabulary's
// size and is for one goroutine at a time; what it draws depends on its arguments
// alone.
type Sampler struct {
	logits []float32 // a row's logits after bias and penalties
	probs  []float32 // exp((logit-max)/T), unnormalised
	count  []int32   // occurrences of a token; zero between calls
	seen   []Token   // tokens with a count
	cand   []candidate
	top    []TopProb
}

type candidate struct {
	token Token
	logit float32 // scaled by 1/T
	prob  float32
	key   float32 // what typical_p orders by
}

// NewSampler returns a sampler for a vocabulary of the given size.
func NewSampler(vocab int) *Sampler {
	return &Sampler{
		logits: make([]float32, vocab),
		probs:  make([]float32, vocab),
		count:  make([]int32, vocab),
	}
}

// Sample draws the token that follows history, of which the first prompt tokens
// are the request's prompt. raw has a logit for each token of the vocabulary and is not changed.
func (s *Sampler) Sample(raw []float32, p *Sampling, history []Token, prompt int) Sampled {
	logits := s.adjust(raw, p, history, prompt)
	var t Token
	switch {
	case p.Temperature == 0:
		t = Token(argmax(logits))
	default:
		u := Draw(p.Seed, p.Choice, int32(len(history)), 0)
		t = s.draw(logits, p, u)
	}
	return s.Score(raw, t, p.LogProbs)
}

// Score says how probable a token was, with want-1 alternatives; want 0 leaves it out.
func (s *Sampler) Score(raw []float32, t Token, want int32) Sampled {
	out := Sampled{Token: t}
	if want <= 0 {
		return out
	}
	lse := logSumExp(raw)
	out.LogProb = float32(float64(raw[t]) - lse)
	if want > 1 {
		out.Top = s.topProbs(raw, int(want)-1, lse)
	}
	return out
}

// adjust applies bias and penalties to a copy, or returns raw where there are none.
func (s *Sampler) adjust(raw []float32, p *Sampling, history []Token, prompt int) []float32 {
	generated := history[min(prompt, len(history)):]
	counted := (p.Presence != 0 || p.Frequency != 0) && len(generated) > 0
	repeated := p.Repetition != 0 && p.Repetition != 1 && len(history) > 0
	if len(p.Bias) == 0 && !counted && !repeated {
		return raw
	}
	logits := s.logits
	copy(logits, raw)
	for _, b := range p.Bias {
		logits[b.Token] += b.Add
	}
	if repeated {
		s.tally(history)
		for _, t := range s.seen {
			if logits[t] > 0 {
				logits[t] /= p.Repetition
			} else {
				logits[t] *= p.Repetition
			}
			s.count[t] = 0
		}
	}
	if counted {
		s.tally(generated)
		for _, t := range s.seen {
			logits[t] -= p.Presence + p.Frequency*float32(s.count[t])
			s.count[t] = 0
		}
	}
	return logits
}

func (s *Sampler) tally(tokens []Token) {
	s.seen = s.seen[:0]
	for _, t := range tokens {
		if s.count[t] == 0 {
			s.seen = append(s.seen, t)
		}
		s.count[t]++
	}
}

// draw picks a token by u in [0, 1) from what the truncations leave.
func (s *Sampler) draw(logits []float32, p *Sampling, u float64) Token {
	inv := 1 / p.Temperature
	best := argmax(logits)
	peak := logits[best]
	if peak-peak != 0 || math.IsInf(float64(inv), 1) {
		// Everything is banned, a logit is infinite or all are NaN, or the temperature
		// is denormal: greedy.
		return Token(best)
	}
	topP := p.TopP > 0 && p.TopP < 1
	typical := p.TypicalP > 0 && p.TypicalP < 1
	topK := p.TopK > 0 && int(p.TopK) < len(logits)
	if !topK && !topP && !typical && p.MinP == 0 {
		return s.drawAll(logits, peak, inv, u)
	}
	switch {
	case topK:
		s.selectTop(logits, int(p.TopK), peak, inv)
	case p.MinP > 0 && !topP && !typical:
		// What min_p cuts need not be looked at: logit/T < max/T + ln(min_p).
		floor := peak + p.Temperature*float32(math.Log(float64(p.MinP)))
		s.selectAbove(logits, floor, peak, inv)
	default:
		s.selectNucleus(logits, p, typical, peak, inv)
	}
	if typical {
		s.keepTypical(p.TypicalP)
	}
	if topP && (topK || typical) { // selectNucleus has done it otherwise
		s.keepNucleus(float64(p.TopP), 0)
	}
	if p.MinP > 0 {
		floor := s.maxProb() * p.MinP
		s.cand = slices.DeleteFunc(s.cand, func(c candidate) bool { return c.prob < floor })
	}
	return s.drawCandidate(u)
}

// drawAll draws from the whole vocabulary.
func (s *Sampler) drawAll(logits []float32, peak, inv float32, u float64) Token {
	total := expAll(s.probs, logits, peak, inv)
	target := u * total
	var sum float64
	last := 0
	// Walk in blocks: the sum of a block is cheap, its tokens matter in one block only.
	for start := 0; start < len(s.probs); start += 256 {
		block := s.probs[start:min(start+256, len(s.probs))]
		var part float64
		for _, q := range block {
			part += float64(q)
		}
		if sum+part <= target {
			sum += part
			continue
		}
		for i, q := range block {
			if q > 0 {
				last = start + i
			}
			if sum += float64(q); sum > target {
				return Token(start + i)
			}
		}
	}
	// Rounding left the target a hair above the sum: the last token with mass.
	for i := len(s.probs) - 1; i > last; i-- {
		if s.probs[i] > 0 {
			return Token(i)
		}
	}
	return Token(last)
}

// order is by probability, then by token, so that ties are cut the same way everywhere.
func order(a, b candidate) int {
	switch {
	case a.logit > b.logit:
		return -1
	case a.logit < b.logit:
		return 1
	}
	return int(a.token) - int(b.token)
}

// selectTop leaves the k most probable tokens in cand, in order.
func (s *Sampler) selectTop(logits []float32, k int, peak, inv float32) {
	// A histogram of the distance from the peak finds a floor below which none of the
	// k can be; what is above it is sorted.
	var bins [1024]int32
	const perUnit = 32 // bins a unit of logit
	for _, x := range logits {
		bins[bin(peak-x, perUnit)]++
	}
	cut, n := 0, 0
	for cut < len(bins) {
		n += int(bins[cut])
		cut++
		if n >= k {
			break
		}
	}
	s.cand = s.cand[:0]
	for i, x := range logits {
		if x >= -math.MaxFloat32 && bin(peak-x, perUnit) < cut { // neither banned nor NaN
			s.cand = append(s.cand, candidate{token: Token(i), logit: (x - peak) * inv})
		}
	}
	slices.SortFunc(s.cand, order)
	s.cand = s.cand[:min(k, len(s.cand))]
	for i := range s.cand {
		if s.cand[i].prob = expf(s.cand[i].logit); s.cand[i].prob == 0 {
			s.cand = s.cand[:i] // sorted: nothing is left from here on
			break
		}
	}
}

func bin(distance float32, perUnit float32) int {
	d := distance * perUnit
	if !(d < 1023) { // +Inf and NaN too
		return 1023
	}
	return int(d)
}

// selectAbove leaves the tokens at or above a floor.
func (s *Sampler) selectAbove(logits []float32, floor, peak, inv float32) {
	s.cand = s.cand[:0]
	for i, x := range logits {
		if x >= floor {
			d := (x - peak) * inv
			s.cand = append(s.cand, candidate{token: Token(i), logit: d, prob: expf(d)})
		}
	}
}

// selectNucleus gathers what top_p can keep: whole bins from the top until they
// hold its mass, not yet sorted to the token. With typical_p everything is gathered.
func (s *Sampler) selectNucleus(logits []float32, p *Sampling, all bool, peak, inv float32) {
	total := expAll(s.probs, logits, peak, inv)
	cut := 1024
	const perUnit = 32 // 32 units of logit/T: below e^-32 nothing is left
	if !all {
		var mass [1024]float64
		for i, x := range logits {
			mass[bin((peak-x)*inv, perUnit)] += float64(s.probs[i])
		}
		var sum float64
		for cut = 0; cut < len(mass) && sum < float64(p.TopP)*total; cut++ {
			sum += mass[cut]
		}
		cut = min(cut+1, len(mass)) // one more, for rounding between the sums
	}
	s.cand = s.cand[:0]
	for i, x := range logits {
		if q := s.probs[i]; q > 0 && bin((peak-x)*inv, perUnit) < cut {
			s.cand = append(s.cand, candidate{token: Token(i), logit: (x - peak) * inv, prob: q})
		}
	}
	if !all {
		s.keepNucleus(float64(p.TopP), total)
	}
}

// keepNucleus keeps the smallest set of most probable candidates that holds p of
// total; 0 is their own total.
func (s *Sampler) keepNucleus(p, total float64) {
	slices.SortFunc(s.cand, order)
	if total == 0 {
		for _, c := range s.cand {
			total += float64(c.prob)
		}
	}
	var sum float64
	for i, c := range s.cand {
		if sum += float64(c.prob); sum >= p*total {
			s.cand = s.cand[:i+1]
			return
		}
	}
}

// keepTypical keeps the candidates whose information is closest to the entropy
// (Meister et al. 2022, locally typical sampling), up to a mass of p.
func (s *Sampler) keepTypical(p float32) {
	var total, entropy float64
	for _, c := range s.cand {
		total += float64(c.prob)
	}
	logTotal := math.Log(total)
	for _, c := range s.cand {
		entropy -= float64(c.prob) / total * (float64(c.logit) - logTotal)
	}
	for i := range s.cand {
		c := &s.cand[i]
		c.key = float32(math.Abs(logTotal - float64(c.logit) - entropy))
	}
	// Only the candidates up to the bin that completes the mass need sorting.
	var mass [1024]float64
	const perUnit = 32
	for _, c := range s.cand {
		mass[bin(c.key, perUnit)] += float64(c.prob)
	}
	cut, held := 0, 0.0
	for ; cut < len(mass) && held < float64(p)*total; cut++ {
		held += mass[cut]
	}
	cut = min(cut+1, len(mass)) // one more, for rounding between the sums
	s.cand = slices.DeleteFunc(s.cand, func(c candidate) bool { return bin(c.key, perUnit) >= cut })
	slices.SortFunc(s.cand, func(a, b candidate) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return order(a, b)
	})
	var sum float64
	for i, c := range s.cand {
		if sum += float64(c.prob); sum >= float64(p)*total {
			s.cand = s.cand[:i+1]
			return
		}
	}
}

func (s *Sampler) maxProb() float32 {
	var m float32
	for _, c := range s.cand {
		m = max(m, c.prob)
	}
	return m
}

func (s *Sampler) drawCandidate(u float64) Token {
	var total float64
	for _, c := range s.cand {
		total += float64(c.prob)
	}
	target := u * total
	var sum float64
	for _, c := range s.cand {
		if sum += float64(c.prob); sum > target {
			return c.token
		}
	}
	return s.cand[len(s.cand)-1].token
}

// topProbs returns the k most probable tokens of raw logits.
func (s *Sampler) topProbs(raw []float32, k int, lse float64) []TopProb {
	// Insertion into a short sorted list: k is at most 20 and most tokens lose to its last.
	top := s.top[:0]
	for i, x := range raw {
		if x != x || len(top) == k && x <= top[k-1].LogProb {
			continue // NaN, or less than what is there
		}
		at := len(top)
		for at > 0 && x > top[at-1].LogProb {
			at--
		}
		if len(top) < k {
			top = append(top, TopProb{})
		}
		copy(top[at+1:], top[at:])
		top[at] = TopProb{Token: Token(i), LogProb: x}
	}
	s.top = top
	out := slices.Clone(top)
	for i := range out {
		out[i].LogProb = float32(float64(out[i].LogProb) - lse)
	}
	return out
}
