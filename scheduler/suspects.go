package scheduler

import (
	"cmp"
	"errors"
	"slices"

	"llamero/engine"
)

// Suspects: a request may be what makes an engine fail. When a step fails, what the
// engine computed just then is accused, waits again like everybody, and is acquitted
// once it has been computed beyond that point. An accident accuses everybody once and
// nobody twice. Who is accused again before having been acquitted stands trial: only
// half of those are admitted, the newest, then, if they are acquitted, half of the
// rest, and whichever half fails is halved in its turn, until the engine fails with
// one sequence alone. That one ends with a PoisonError; everybody else goes on.
//
// So one bad request among n costs about 2 + log2(n) failures, and no failure that
// comes from outside ends a request unless it comes to that request alone, every time.
//
// An engine may die of what a pass did long before, or its report of a pass be lost, so
// that the wrong ones are accused each time: who gets no further while the engine keeps
// failing beside it is accused with them.
//
// A copy from slot to slot takes two, and a trial of one never comes to it: whoever has
// met two failures while copied so is not again, and begins with pages or from nothing.

// PoisonError ends a request on which the engine fails whenever it computes it.
type PoisonError struct{ Err error }

func (e *PoisonError) Error() string {
	return "the engine fails on this request, and did so on it alone: " + e.Err.Error()
}

func (e *PoisonError) Unwrap() error { return e.Err }

// maxBarren is how many steps may fail in a row before it is the engine that is
// broken, whatever it runs: more than it takes to find two bad requests among 250.
const maxBarren = 24

// maxStalled is how many failures a sequence may be computed in, without getting any
// further meanwhile, before it is accused whatever the failures were due to.
const maxStalled = 4

// leastStrikes is how many failures a sequence must have been accused of, not for being
// stalled alone, before it is condemned.
const leastStrikes = 3

// suspects are the sequences under suspicion.
type suspects struct {
	trial  []*sequence // nobody else is admitted; empty: there is no trial
	rest   []*sequence // those who stand trial next
	barren int         // failed steps since a pass last ran
}

// accusation is a sequence and the token count at which it is acquitted.
type accusation struct {
	q       *sequence
	peak    int
	stalled bool // for that alone
}

// accused are those whom the flight's failure may be due to: the rows of the pass
// that ran, or the slots that edits changed, if those had not been done, or both, if
// nobody knows. Those who were copied take note.
func (s *Scheduler) accused(err error) []accusation {
	if s.flight == nil {
		return nil
	}
	editing, passing := s.applied == 0, true
	var lost *engine.LostError
	if errors.As(err, &lost) {
		if !lost.Begun {
			return nil
		}
		editing = editing && !lost.Edited
		passing = !editing
	}
	var out []accusation
	stalled := false
	add := func(q *sequence, peak int) {
		if q != nil && !q.ended && !slices.ContainsFunc(out, func(a accusation) bool { return a.q == q }) {
			out = append(out, accusation{q, peak, stalled})
		}
	}
	if passing && s.applied < len(s.rows) {
		for i, q := range s.rows[s.applied] {
			row := &s.flight.Passes[s.applied].Rows[i]
			add(q, int(row.Pos)+len(row.Tokens))
		}
	}
	if editing {
		at := func(slot int32) {
			if q := s.slots[slot]; q != nil {
				add(q, q.computed+1)
			}
		}
		for _, e := range s.flight.Edits {
			switch e.Kind {
			case engine.EditDrop:
			case engine.EditMove, engine.EditFork:
				at(e.Slot)
				at(e.To)
				if q := s.slots[e.To]; q != nil {
					q.upset++
				}
			default:
				at(e.Slot)
			}
		}
	}
	stalled = true
	for i := s.applied; i < len(s.rows); i++ {
		for j, q := range s.rows[i] {
			if q == nil {
				continue
			}
			if q.stalled++; q.stalled >= maxStalled {
				row := &s.flight.Passes[i].Rows[j]
				add(q, int(row.Pos)+len(row.Tokens))
			}
		}
	}
	return out
}

// judge draws the conclusions from a failure. Everybody waits by now.
func (s *Scheduler) judge(events []Event, accused []accusation, err error, now Tick) []Event {
	if len(accused) == 0 {
		return events
	}
	if s.barren++; s.barren > maxBarren {
		for _, a := range accused {
			events = s.end(events, a.q, FinishError, err, now)
		}
		return events
	}
	var again, tried []*sequence
	for _, a := range accused {
		if a.q.peak > 0 {
			again = append(again, a.q)
		}
		if slices.Contains(s.trial, a.q) {
			tried = append(tried, a.q)
		}
	}
	for _, a := range accused {
		a.q.peak = a.peak
		if !a.stalled {
			a.q.strikes++
		}
	}
	switch {
	case len(tried) == 1 && len(accused) == 1 && tried[0].strikes >= leastStrikes:
		s.release(nil)
		return s.end(events, tried[0], FinishError, &PoisonError{err}, now)
	case len(tried) > 0:
		s.release(tried)
		s.try(tried)
	case len(again) > 0:
		s.release(again)
		s.try(again)
	}
	return events
}

// try begins a trial of the newest half.
func (s *Scheduler) try(all []*sequence) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *sequence) int {
		return cmp.Or(cmp.Compare(b.req.arrival, a.req.arrival), cmp.Compare(b.choice, a.choice))
	})
	half := (len(all) + 1) / 2
	s.trial, s.rest = all[:half:half], all[half:]
}

// release ends the trial and acquits those who stood or were to stand it, except some.
func (s *Scheduler) release(except []*sequence) {
	for _, list := range [2][]*sequence{s.trial, s.rest} {
		for _, q := range list {
			if !slices.Contains(except, q) {
				q.clear()
			}
		}
	}
	s.trial, s.rest = nil, nil
}

// acquit clears a sequence of suspicion; the last of a trial lets the next half in.
func (s *Scheduler) acquit(q *sequence) {
	q.clear()
	isQ := func(o *sequence) bool { return o == q }
	was := len(s.trial)
	s.trial, s.rest = slices.DeleteFunc(s.trial, isQ), slices.DeleteFunc(s.rest, isQ)
	if was > 0 && len(s.trial) == 0 && len(s.rest) > 0 {
		s.try(s.rest)
	}
}

// clear lifts all suspicion.
func (q *sequence) clear() { q.peak, q.strikes = 0, 0 }

// barred reports whether a sequence waits for the end of a trial that is not its own.
func (s *Scheduler) barred(q *sequence) bool {
	return len(s.trial) > 0 && !slices.Contains(s.trial, q)
}

// checkSuspects is Check's part.
func (s *Scheduler) checkSuspects() error {
	if len(s.trial) == 0 && len(s.rest) > 0 {
		return errors.New("suspects wait for a trial that is over")
	}
	for _, list := range [2][]*sequence{s.trial, s.rest} {
		for _, q := range list {
			if q.ended || q.peak < 1 {
				return errors.New("a sequence is suspected that has ended or been acquitted")
			}
		}
	}
	return nil
}
