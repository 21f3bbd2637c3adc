package scheduler

import "llamero/engine"

// Guesses: text repeats itself. Where the end of a sequence stood before, in its
// prompt or its answer, what followed there may follow here. It is computed in the
// same pass as the token that is due, and what equals the sequence's own draws is
// kept: several tokens for one pass, and the same tokens. (Others call it prompt
// lookup or n-gram speculation.)
//
// How probable a guess is depends on how long a text it is the continuation of; that is
// learnt from every token drawn, whether a guess was computed or not, for all sequences
// and for each. The engine's draft model guesses too, see draft.go; whose guess a row
// takes, and how long a one, is decided in depth.go.

const (
	// leastMatch is the shortest repetition that is continued.
	leastMatch = 2
	// mostMatch is the longest that is told from longer ones.
	mostMatch = 16
	// lookBack is how many tokens a repetition is looked for in.
	lookBack = 16384
	// mostGuess is the longest guess.
	mostGuess = 31
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

// among is the share that is to be expected of one of many, who weigh as much as so many
// of its own trials.
func (r *rate) among(all rate, weight float64) float64 {
	return (r.right + weight*all.right/all.tried) / (r.tried + weight)
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
	return own.among(o[min(length, mostMatch)], ownTrials)
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

// Guesses counts guesses that were verified, ever.
type Guesses struct {
	Drafts     int            // guesses
	Tokens     int            // tokens of them
	Accepted   int            // of the tokens, those that were drawn
	ByPosition [mostGuess]int // of Accepted, by where in its guess it stood, from 0
}

// count takes a guess of so many tokens, of which the first so many were right.
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
