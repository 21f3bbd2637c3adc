package scheduler

import (
	"cmp"
	"slices"

	"llamero/engine"
)

// Guesses: text repeats itself. Where the end of a sequence stood before, in its
// prompt or its answer, what followed there may follow here. It is computed in the
// same pass as the token that is due, and what equals the sequence's own draws is
// kept: several tokens for one pass, and the same tokens. (Others call it prompt
// lookup or n-gram speculation.)
//
// A pass costs more the wider it is, so a guess must be worth its place. How probable
// it is depends on how long a text it is the continuation of; that is learnt from
// every token drawn, whether a guess was computed or not, for all sequences and for
// each. A pass is made as wide as gives the most tokens in the time, which is often
// not at all.

const (
	// leastMatch is the shortest repetition that is continued.
	leastMatch = 2
	// mostMatch is the longest that is told from longer ones.
	mostMatch = 16
	// lookBack is how many tokens a repetition is looked for in.
	lookBack = 16384
	// mostGuess is the longest guess.
	mostGuess = 31
	// GuessGain is the gain, in tokens for the time, from which a guess is worth having:
	// predictions are noisy.
	GuessGain = 1.05
)

// match is where a sequence's end stood before.
type match struct {
	next   int // where in its tokens the guess begins; 0: nowhere
	length int // tokens before it that are the same
}

// find looks for the longest repetition of a text's end, of those the latest.
func find(tokens []engine.Token) match {
	var best match
	n := len(tokens)
	for i := n - 2; i >= max(0, n-1-lookBack); i-- {
		if tokens[i] != tokens[n-1] {
			continue
		}
		length := 1
		for length < mostMatch && length <= i && tokens[i-length] == tokens[n-1-length] {
			length++
		}
		if length > best.length {
			best = match{next: i + 1, length: length}
			if length == mostMatch {
				break
			}
		}
	}
	if best.length < leastMatch {
		return match{}
	}
	return best
}

// guess continues a text by n tokens as a match says; past the end it goes on with
// what it has guessed.
func (m match) guess(tokens []engine.Token, n int) []engine.Token {
	out := make([]engine.Token, 0, n)
	for at := m.next; len(out) < n; at++ {
		if at < len(tokens) {
			out = append(out, tokens[at])
		} else {
			out = append(out, out[at-len(tokens)])
		}
	}
	return out
}

// rate is a share that is learnt: right of tried, of which older ones count less.
type rate struct{ right, tried float64 }

func (r *rate) learn(ok bool, decay float64) {
	r.right, r.tried = r.right*decay, r.tried*decay+1
	if ok {
		r.right++
	}
}

const (
	allDecay = 0.995 // of what all sequences have taught: some hundred tokens count
	ownDecay = 0.9   // of what a sequence has
	// ownTrials is how many of its own tokens weigh as much as those of all.
	ownTrials = 4
)

// odds are what guesses are worth, by the length of the match that they continue.
type odds [mostMatch + 1]rate

func newOdds() *odds {
	var o odds
	for i := range o {
		// What chat and code show: a match of 2 is right in a fifth of all cases, one of 16 nearly always.
		o[i] = rate{right: 20 * min(0.95, 0.1+0.055*float64(i)), tried: 20}
	}
	return &o
}

// next is the probability that a sequence's match is continued by one token more.
func (o *odds) next(own rate, length int) float64 {
	all := o[min(length, mostMatch)]
	return (own.right + ownTrials*all.right/all.tried) / (own.tried + ownTrials)
}

// drew takes a token that has been drawn, before it is appended to the sequence.
func (s *Scheduler) drew(q *sequence, t engine.Token) {
	if q.match.next == 0 {
		return
	}
	right := q.match.guess(q.tokens, 1)[0] == t
	s.odds[min(q.match.length, mostMatch)].learn(right, allDecay)
	q.guessed.learn(right, ownDecay)
	if !right {
		q.match = match{}
		return
	}
	q.match.next++
	q.match.length++
}

// prospect is what a sequence's guesses promise: worth[i] is the probability that
// token i is reached and right.
type prospect struct {
	q     *sequence
	worth []float64
}

// prospects looks for guesses of the sequences that decode.
func (s *Scheduler) prospects(decoding []*sequence) []prospect {
	if s.cfg.Guess <= 0 || !s.cfg.Limits.Trims {
		return nil
	}
	var out []prospect
	for _, q := range decoding {
		if q.match.next == 0 {
			q.match = find(q.tokens)
		}
		if q.match.next == 0 {
			continue
		}
		p, x := prospect{q: q}, 1.0
		for len(p.worth) < min(mostGuess, q.limit-len(q.tokens)-1) {
			if x *= s.odds.next(q.guessed, q.match.length+len(p.worth)); x < leastWorth {
				break
			}
			p.worth = append(p.worth, x)
		}
		if len(p.worth) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// leastWorth is what a guess may promise least to be thought about.
const leastWorth = 0.05

// guessEvenly says how many tokens each row of a pass over consecutive slots should
// guess: in the split layout all rows are equally wide. plain is what the pass costs
// without.
func (b *builder) guessEvenly(lo, hi int32, plain float64) int {
	s, l := b.s, b.s.cfg.Limits
	var decoding []*sequence
	width := int(hi-lo) + 1
	most := min(mostGuess, l.PassTokens/width-1)
	for _, q := range s.slots[lo : hi+1] {
		if q == nil {
			continue
		}
		most = min(most, l.SlotTokens-q.computed-1)
		if q.decodes() {
			if q.req.MaxTokens == -1 {
				return 0 // it only scores, and what is not drawn cannot be guessed
			}
			decoding = append(decoding, q)
		}
	}
	most = min(most, l.PassOutputs/len(decoding)-1)
	prospects := s.prospects(decoding)
	tokens, depth := float64(len(decoding)), b.depth(lo, hi)
	best, rate := 0, s.cfg.Guess*tokens/plain
	for k := 1; k <= most; k++ {
		more := false
		for _, p := range prospects {
			if k <= len(p.worth) {
				tokens += p.worth[k-1]
				more = true
			}
		}
		if !more {
			break
		}
		if r := tokens / s.costs.decode(width*(k+1), depth*(k+1)); r > rate {
			best, rate = k, r
		}
	}
	return best
}

// guessFreely says how many tokens each sequence should guess where rows may differ
// in width: the most promising tokens of all, as many as pay.
func (b *builder) guessFreely(decoding []*sequence, depth, room int, plain float64) map[*sequence]int {
	s, l := b.s, b.s.cfg.Limits
	type candidate struct {
		q     *sequence
		worth float64
	}
	var all []candidate
	for _, p := range s.prospects(decoding) {
		for _, x := range p.worth {
			all = append(all, candidate{p.q, x})
		}
	}
	// A sequence's own are in falling order already, and stay in it.
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(y.worth, x.worth) })
	n := len(decoding)
	all = all[:max(0, min(len(all), room-n, l.PassTokens-n, l.PassOutputs-n))]
	tokens := float64(n)
	best, rate := 0, s.cfg.Guess*tokens/plain
	for i, c := range all {
		tokens += c.worth
		if r := tokens / s.costs.decode(n+i+1, depth+(i+1)*depth/n); r > rate {
			best, rate = i+1, r
		}
	}
	out := make(map[*sequence]int)
	for _, c := range all[:best] {
		out[c.q]++
	}
	return out
}

// guessRow is the row of a sequence that guesses n tokens; what it has no guess for
// is filled up.
func guessRow(q *sequence, n int) engine.Row {
	r := decodeRow(q)
	if n == 0 {
		return r
	}
	m := q.match
	q.proposed = n
	if m.next == 0 { // it holds its place
		m, q.proposed = match{next: len(q.tokens) - 1}, 0
	}
	r.Guess = m.guess(q.tokens, n)
	return r
}

// Guesses counts guesses that were verified, ever.
type Guesses struct {
	Drafts     int            // guesses
	Tokens     int            // tokens of them
	Accepted   int            // of the tokens, those that were drawn
	ByPosition [mostGuess]int // of Accepted, by where in its guess it stood, from 0
}

func (g *Guesses) count(proposed, right int) {
	if proposed == 0 {
		return
	}
	g.Drafts++
	g.Tokens += proposed
	g.Accepted += right
	for i := range right {
		g.ByPosition[i]++
	}
}

// Add adds another scheduler's.
func (g *Guesses) Add(o *Guesses) {
	g.Drafts += o.Drafts
	g.Tokens += o.Tokens
	g.Accepted += o.Accepted
	for i, n := range o.ByPosition {
		g.ByPosition[i] += n
	}
}
