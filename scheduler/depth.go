package scheduler

import (
	"cmp"
	"slices"

	"llamero/engine"
)

// How much to guess, and by whom: a pass costs more the wider it is, and a draft costs
// passes of the draft model besides, so a guess must be worth its place. A pass is made
// as wide as gives the most tokens in the time, which is often not at all.

const (
	// GuessGain is the gain, in tokens for the time, from which a guess is worth having:
	// predictions are noisy.
	GuessGain = 1.05
	// leastWorth is what a guess may promise least to be thought about.
	leastWorth = 0.05
)

// prospect is what guesses of a sequence promise: worth[i] is the probability that token
// i is reached and right.
type prospect struct {
	q     *sequence
	match []float64 // of a continued repetition
	draft []float64 // of the draft model
	read  float64   // what the draft model must read first costs, in nanoseconds a token that is drawn
}

// sum is what n tokens of a guess promise.
func sum(worth []float64, n int) (total float64) {
	for _, x := range worth[:min(n, len(worth))] {
		total += x
	}
	return total
}

// drafts reports whether the draft model promises more of n tokens than a repetition does.
func (p *prospect) drafts(n int) bool { return len(p.draft) > 0 && sum(p.draft, n) > sum(p.match, n) }

// prospects looks for guesses of the sequences that decode.
func (s *Scheduler) prospects(decoding []*sequence) []prospect {
	if s.cfg.Guess <= 0 || !s.cfg.Limits.Trims {
		return nil
	}
	var out []prospect
	for _, q := range decoding {
		if q.req.MaxTokens == -1 {
			continue // it only scores, and what is not drawn cannot be guessed
		}
		most := min(mostGuess, q.limit-len(q.tokens)-1)
		p := prospect{q: q, match: s.repetition(q, most)}
		if x := q.drafts.among(s.draftRate, ownDrafts); s.costs.drafts() {
			p.draft = worth(min(most, s.cfg.Limits.Draft), func(int) float64 { return x })
			p.read = s.costs.draftRead(q.unread()) / float64(max(1, q.run()))
		}
		if len(p.match) > 0 || len(p.draft) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// repetition is what a sequence's match promises, which is looked for first.
func (s *Scheduler) repetition(q *sequence, most int) []float64 {
	if s.cfg.DraftOnly {
		return nil
	}
	if q.match.next == 0 {
		q.match = find(q.tokens)
	}
	if q.match.next == 0 {
		return nil
	}
	return worth(most, func(i int) float64 { return s.odds.next(q.guessed, q.match.length+i) })
}

// worth multiplies the odds of up to so many tokens.
func worth(most int, odds func(i int) float64) (out []float64) {
	for x := 1.0; len(out) < most; {
		if x *= odds(len(out)); x < leastWorth {
			break
		}
		out = append(out, x)
	}
	return out
}

// depth is how a row is to guess: so many tokens, by whom.
type depth struct {
	tokens int
	draft  bool
}

// guessEvenly says how the rows of a pass over consecutive slots should guess: in the
// split layout all rows are equally wide. plain is what the pass costs without.
func (b *builder) guessEvenly(lo, hi int32, plain float64) (tokens int, drafts map[*sequence]bool) {
	s, l := b.s, b.s.cfg.Limits
	var decoding []*sequence
	width := int(hi-lo) + 1
	most := min(mostGuess, min(l.PassTokens, l.PassOutputs)/width-1)
	for _, q := range s.slots[lo : hi+1] {
		if q == nil {
			continue
		}
		most = min(most, l.SlotTokens-q.computed-1)
		if q.decodes() {
			if q.req.MaxTokens == -1 {
				return 0, nil // it has no guess, and all rows are equally wide
			}
			decoding = append(decoding, q)
		}
	}
	prospects := s.prospects(decoding)
	longest := 0
	for _, p := range prospects {
		longest = max(longest, len(p.match), len(p.draft))
	}
	n, deep := float64(len(decoding)), b.depth(lo, hi)
	rate, drafting := s.cfg.Guess*n/plain, false
	for k := 1; k <= min(most, longest); k++ {
		pass := s.costs.decode(width*(k+1), deep*(k+1))
		alone, mixed, rows, reading := n, n, 0, 0.0
		for i := range prospects {
			p := &prospects[i]
			m := sum(p.match, k)
			alone += m
			if k <= l.Draft && p.drafts(k) {
				m = sum(p.draft, k)
				reading += p.read * (1 + m)
				rows++
			}
			mixed += m
		}
		if r := alone / pass; r > rate && alone > n {
			tokens, rate, drafting = k, r, false
		}
		if rows == 0 {
			continue
		}
		if r := mixed / (pass + s.costs.draft(rows, k) + reading); r > rate {
			tokens, rate, drafting = k, r, true
		}
	}
	if drafting {
		drafts = make(map[*sequence]bool)
		for i := range prospects {
			drafts[prospects[i].q] = prospects[i].drafts(tokens)
		}
	}
	return tokens, drafts
}

// guessFreely says how each sequence should guess where rows may differ in width. Those
// that draft do so equally deep, unless they end before, since the draft model takes a
// pass for each token, however many sequences share it; of the repetitions of the others
// the most promising tokens are taken, as many as pay.
func (b *builder) guessFreely(decoding []*sequence, deep, room int, plain float64) map[*sequence]depth {
	s, l := b.s, b.s.cfg.Limits
	type candidate struct {
		p     *prospect
		worth float64
	}
	prospects := s.prospects(decoding)
	var all []candidate
	longest := 0
	for i := range prospects {
		p := &prospects[i]
		longest = max(longest, len(p.draft))
		for _, x := range p.match {
			all = append(all, candidate{p, x})
		}
	}
	// A sequence's own are in falling order already, and stay in it.
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(y.worth, x.worth) })
	n := len(decoding)
	most := min(room, l.PassTokens, l.PassOutputs) - n
	rate, drafted, taken := s.cfg.Guess*float64(n)/plain, 0, 0
	for k := 0; k <= longest; k++ {
		tokens, width, rows, reading := float64(n), 0, 0, 0.0
		for i := range prospects {
			if p := &prospects[i]; k > 0 && p.drafts(k) {
				m := sum(p.draft, k)
				tokens += m
				reading += p.read * (1 + m)
				width += min(k, len(p.draft))
				rows++
			}
		}
		if width > most || k > 0 && rows == 0 {
			continue
		}
		extra := reading
		if k > 0 {
			extra += s.costs.draft(rows, k)
		}
		try := func(i int) {
			if r := tokens / (s.costs.decode(n+width, deep+width*deep/n) + extra); r > rate {
				rate, drafted, taken = r, k, i
			}
		}
		if k > 0 {
			try(0)
		}
		for i, c := range all {
			if k > 0 && c.p.drafts(k) {
				continue
			}
			if width++; width > most {
				break
			}
			tokens += c.worth
			try(i + 1)
		}
	}
	out := make(map[*sequence]depth)
	for i := range prospects {
		if p := &prospects[i]; drafted > 0 && p.drafts(drafted) {
			out[p.q] = depth{min(drafted, len(p.draft)), true}
		}
	}
	for _, c := range all[:taken] {
		if d := out[c.p.q]; !d.draft {
			out[c.p.q] = depth{tokens: d.tokens + 1}
		}
	}
	return out
}

// guessRow is the row of a sequence that guesses as it is told; what it has no guess for
// is filled up.
func guessRow(q *sequence, d depth) engine.Row {
	r := decodeRow(q)
	switch {
	case d.tokens == 0:
	case d.draft:
		r.Draft = int32(d.tokens)
	default:
		m := q.match
		q.proposed = d.tokens
		if m.next == 0 { // it holds its place
			m, q.proposed = match{next: len(q.tokens) - 1}, 0
		}
		r.Guess = m.guess(q.tokens, d.tokens)
	}
	return r
}
