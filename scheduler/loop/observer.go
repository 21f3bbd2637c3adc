package loop

import (
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// Observer is told what a loop does, for metrics. Its funcs are called on the
// loop's goroutine, between passes: they must not wait, and must not keep what they
// are given. Nil funcs are not called. A Group has several loops: their goroutines call
// them at once.
type Observer struct {
	Pass     func(*Pass)                    // a pass has run
	Step     func(*Step)                    // a step has ended or failed
	Admitted func(prompt, cached int)       // a request got its first slot: its prompt's tokens, those of them that need no computing
	Lookup   func(asked, found int)         // the remote tier was asked for so many tokens of a prompt, and had some
	Tokens   func(n int, gap time.Duration) // an answer got tokens, so long after those before; gap is negative for the first
}

// Pass is one pass of a step.
type Pass struct {
	Kind     engine.PassKind
	Rows     int           // rows that compute for somebody
	Idle     int           // rows that fill holes or round the width up
	Tokens   int           // that Rows compute
	Took     time.Duration // as the engine measured it
	Expected time.Duration // as the scheduler predicted it
}

// Step is one call of the engine.
type Step struct {
	Took  time.Duration // whole
	Edits []engine.Edit
	Edit  time.Duration // of Took: what the edits took
	Moved int           // tokens that they copied: from slot to slot, into pages and out of them
	Err   error
}

// stepWatch measures one step; the zero value measures nothing.
type stepWatch struct {
	observer *Observer
	plan     *engine.Plan
	start    time.Time
	edit     time.Duration
}

func (o *Observer) step(plan *engine.Plan) stepWatch {
	if o.Pass == nil && o.Step == nil {
		return stepWatch{}
	}
	return stepWatch{observer: o, plan: plan, start: time.Now()}
}

// pass must be called before the scheduler learns from the output.
func (w *stepWatch) pass(out *engine.Output, s *scheduler.Scheduler) {
	if w.observer == nil {
		return
	}
	w.edit += time.Duration(out.EditNanos)
	if w.observer.Pass == nil || out.Pass < 0 || out.Pass >= len(w.plan.Passes) {
		return // a plan of edits alone has no pass
	}
	pass := &w.plan.Passes[out.Pass]
	p := Pass{Kind: pass.Kind, Took: time.Duration(out.Nanos), Expected: time.Duration(s.Expected(out.Pass))}
	for i := range pass.Rows {
		if row := &pass.Rows[i]; row.Idle {
			p.Idle++
		} else {
			p.Rows++
			p.Tokens += len(row.Tokens)
		}
	}
	w.observer.Pass(&p)
}

func (w *stepWatch) end(moved int, err error) {
	if w.observer == nil || w.observer.Step == nil {
		return
	}
	w.observer.Step(&Step{Took: time.Since(w.start), Edits: w.plan.Edits, Edit: w.edit, Moved: moved, Err: err})
}

// event tells of what goes into a stream's mailbox.
func (o *Observer) event(s *Stream, e *scheduler.Event) {
	switch {
	case e.Kind == scheduler.EventAdmitted && o.Admitted != nil:
		if s.prompt > 0 {
			o.Admitted(s.prompt, e.Cached)
			s.prompt = 0 // choices share it
		}
	case e.Kind == scheduler.EventLookup && o.Lookup != nil:
		o.Lookup(e.Lookup.Asked, e.Lookup.Found)
	case e.Kind == scheduler.EventTokens && len(e.Tokens) > 0 && o.Tokens != nil:
		if s.latest == nil {
			s.latest = make([]scheduler.Tick, s.choices)
		}
		gap := time.Duration(-1)
		if before := s.latest[e.Choice]; before > 0 {
			gap = time.Duration(e.At - before)
		}
		s.latest[e.Choice] = e.At
		o.Tokens(len(e.Tokens), gap)
	}
}
