package scheduler

import (
	"llamero/cache"
	"llamero/engine"
)

// request is a Request in the scheduler, with its answers.
type request struct {
	Request
	arrival   uint64 // order of Add
	sequences []*sequence
	left      int // sequences that have not ended
}

// sequence is one answer: the unit that gets a slot.
type sequence struct {
	req    *request
	choice int
	// tokens are the prompt and what has been drawn; computed of them are in the
	// slot's KV. A sequence without a slot has computed nothing.
	tokens   []engine.Token
	computed int
	slot     int32 // noSlot while waiting
	limit    int   // tokens at which it ends with FinishLength
	scored   int   // prompt tokens whose scores have been emitted
	admitted bool  // has had a slot before
	ended    bool
	peak     int // tokens that it must have computed to be above suspicion; 0: it is
	strikes  int // failures that it is accused of
	furthest int // most tokens that it has computed
	stalled  int // failures of steps that computed it, since it got further
	upset    int // times that the engine failed while its KV was copied from slot to slot

	match    match // where its end stood before, as far as it has been looked for
	guessed  rate  // of the tokens drawn, those that its match had said
	proposed int   // tokens of its match that the flight verifies

	drafts rate // of the tokens drafted for it, those that were right
	read   int  // tokens that the draft model has read, as far as is known

	chain    []cache.Address // of its pages: the prompt's, then as far as needed
	fetching bool            // somebody looks elsewhere for pages of it
	// fetchedFrom is the first page that is looked for.
	fetchedFrom int
	published   int // of them, those that were known when it got its slot, or saved since
}

const noSlot int32 = -1

// gap is how many tokens are to be computed before the next is drawn.
func (q *sequence) gap() int { return len(q.tokens) - q.computed }

// decodes reports whether the sequence is a row of the decode pass.
func (q *sequence) decodes() bool { return q.gap() == 1 && !q.scores() }

// scores reports whether prompt scores are still owed.
func (q *sequence) scores() bool {
	return q.req.PromptScores && q.choice == 0 && q.scored < len(q.req.Prompt)-1
}

// before is the order in which sequences are served: priority, then arrival.
func (q *sequence) before(o *sequence) bool {
	if q.req.Priority != o.req.Priority {
		return q.req.Priority < o.req.Priority
	}
	if q.req.arrival != o.req.arrival {
		return q.req.arrival < o.req.arrival
	}
	return q.choice < o.choice
}

// apart reports whether the sequence is neither forked nor moved any more.
func (q *sequence) apart() bool { return q.upset > 1 }

func (q *sequence) sampling() engine.Sampling {
	s := q.req.Sampling
	s.Choice += int32(q.choice)
	return s
}
