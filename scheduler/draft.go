package scheduler

import "llamero/engine"

// Drafts: where the engine has a draft model, it can guess what a row will draw. That
// costs a pass of the small model a token, and before the first one the reading of the
// text, which is put off until a sequence decodes and its drafts are predicted to pay.
//
// What share of its tokens is right is learnt from those that were verified, for all
// sequences and for each. Who does not draft learns nothing, so what has been learnt
// fades: after some hundred tokens it is tried again.

const (
	// hopeful is what drafts are taken for before anything is known of them: where they
	// pay at all, they are to be tried.
	hopeful  = 0.65
	hopeOf   = 20   // tokens that this is worth
	ownFade  = 0.98 // what is left of what a sequence has taught, with each token that is not drafted
	allFade  = 0.998
	leastRun = 64 // tokens that an answer is expected to go on for at least, if it may
)

func newDraftRate() rate { return rate{right: hopeful * hopeOf, tried: hopeOf} }

// fade lets go of some of what has been learnt, towards what was known before.
func (r *rate) fade(keep float64, before rate) {
	r.right = before.right + keep*(r.right-before.right)
	r.tried = before.tried + keep*(r.tried-before.tried)
}

// drafted takes what a row of a sequence gave that may have had tokens drafted, and
// returns how many were, and how many of them were right.
func (s *Scheduler) drafted(q *sequence, row *engine.Row, out *engine.RowOutput, right int) (n, ok int) {
	if s.cfg.Limits.Draft == 0 || !row.Sample {
		return 0, 0
	}
	q.read = int(out.Read)
	if row.Draft == 0 {
		q.drafts.fade(ownFade, rate{})
		return 0, 0
	}
	n = len(out.Drafted)
	ok = min(right, n)
	s.guesses.count(n, ok)
	s.drafts.count(n, ok)
	for i := range min(ok+1, n) {
		q.drafts.learn(i < ok, ownDraftDecay)
		s.draftRate.learn(i < ok, allDecay)
	}
	return n, ok
}

const (
	// ownDraftDecay is of what a sequence has taught of its drafts. Single tokens say less
	// than those of a match, which is right or wrong as a whole.
	ownDraftDecay = 0.97
	// ownDrafts is how many of its own tokens weigh as much as those of all: texts differ
	// less in how well they can be drafted than in how they repeat themselves.
	ownDrafts = 12
)

// undrafted takes note of a decode pass for which nothing was drafted.
func (s *Scheduler) undrafted(pass *engine.Pass) {
	if s.cfg.Limits.Draft == 0 || pass.Kind != engine.PassDecode {
		return
	}
	for i := range pass.Rows {
		if pass.Rows[i].Draft > 0 {
			return
		}
	}
	s.draftRate.fade(allFade, newDraftRate())
}

// unread is how many tokens the draft model would have to read before it could guess,
// beyond the one or two that every guess begins with.
func (q *sequence) unread() int { return max(0, len(q.tokens)-q.read-2) }

// run is how many tokens a sequence is expected to draw still: at most what it may, and
// else about as many as it has.
func (q *sequence) run() int {
	return min(q.limit-len(q.tokens), max(leastRun, len(q.tokens)-len(q.req.Prompt)))
}
