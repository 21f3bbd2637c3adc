package scheduler

import (
	"errors"
	"fmt"
	"slices"

	"llamero/cache"
	"llamero/engine"
)

// Config is what a scheduler is told once.
type Config struct {
	Limits engine.Limits
	// TargetITL is the time in nanoseconds that a step may take while requests
	// decode: prompt chunks are cut to fit. It is a target, not a promise: a decode
	// pass that takes longer by itself still shares its step with a smallest chunk.
	TargetITL int64
	// Queue is how many requests may wait for a slot; Add refuses more.
	Queue int
	// Pages is the engine's side of the account of host pages, which the scheduler then
	// owns; nil: there are none. Where engines share an account, its other sides stand
	// still while Next, Apply, Fail, Fetch, Fetched, Stored, Stats and Check run.
	Pages *cache.View
	// Insure has what running answers have computed saved to pages now and then, since
	// the engine may die and the pages outlast it.
	Insure bool
	// KeepSaved remembers what was written to host pages, for Saved.
	KeepSaved bool
	// Guess has repeating text guessed ahead and verified, where that is predicted to
	// bring so many times the tokens in the time: the same tokens, in fewer passes.
	// 0: never; GuessGain is what pays.
	Guess float64
	// DraftOnly leaves guessing to the engine's draft model.
	DraftOnly bool
	// Follow is how many tokens a sequence must hope to be spared to wait for another
	// that computes them: for less it would lose more than it gains. 0: 128.
	Follow int
}

// Scheduler is the state machine. The zero value is of no use; see New.
type Scheduler struct {
	cfg   Config
	costs *Costs
	odds  *odds

	requests map[ID]*request
	waiting  []*sequence // in the order of sequence.before
	queued   int         // requests none of whose sequences has had a slot
	slots    []*sequence // by slot; nil is free
	cells    *engine.Cells
	dirty    []bool // slots that hold what nobody needs, to be dropped before use
	shares   map[string]*share
	arrivals uint64
	step     uint64

	flight      *engine.Plan  // the plan that runs
	rows        [][]*sequence // behind the rows of its passes; nil for idle ones
	shapes      []shape       // what its passes are expected to cost by
	copies      copies        // what the latest plan's edits copy
	saved       []int32       // host pages that the flight's edits write; none once they have
	applied     int           // its passes whose output has come
	landed      []int32       // host pages that have been written since Saved was called
	lost        bool          // the step before has failed: everybody begins anew
	preemptions int
	guesses     Guesses
	drafts      Guesses // of these, the draft model's
	draftRate   rate    // of the tokens that it drafted, those that were right

	retired   []retired                   // slots to be published before they are dropped
	computing map[cache.Address]*sequence // pages of prompts that are not published yet, by who computes them

	suspects
}

// New returns a scheduler for an engine with empty slots.
func New(cfg Config) *Scheduler {
	if cfg.Follow == 0 {
		cfg.Follow = followTokens
	}
	n := cfg.Limits.Slots + cfg.Limits.Scratch
	return &Scheduler{
		cfg:   cfg,
		costs: NewCosts(cfg.Limits),
		odds:  newOdds(),

		draftRate: newDraftRate(),

		requests: make(map[ID]*request),
		slots:    make([]*sequence, n),
		cells:    engine.NewCells(cfg.Limits.Layout, n),
		dirty:    make([]bool, n),
		shares:   make(map[string]*share),

		computing: make(map[cache.Address]*sequence),
	}
}

// Costs are what passes cost, for calibration and for metrics.
func (s *Scheduler) Costs() *Costs { return s.costs }

// Add takes a request into the queue. It fails with ErrQueueFull, with a
// *TooLongError when no slot can ever hold the prompt and one token, or with an
// error that says what is wrong with the request.
func (s *Scheduler) Add(r Request) error {
	if err := Fits(r, s.cfg.Limits); err != nil {
		return err
	}
	if s.requests[r.ID] != nil {
		return fmt.Errorf("scheduler: request %d is there already", r.ID)
	}
	if s.queued >= s.cfg.Queue {
		return ErrQueueFull
	}
	if r.Choices == 0 {
		r.Choices = 1
	}
	s.arrivals++
	req := &request{Request: r, arrival: s.arrivals, left: r.Choices}
	limit := s.cfg.Limits.SlotTokens
	if r.MaxTokens > 0 {
		limit = min(limit, len(r.Prompt)+r.MaxTokens)
	}
	var chain []cache.Address
	if r.Paged && s.cfg.Pages != nil {
		chain = cache.Chain(r.Root, nil, r.Prompt, s.pageTokens())
		chain = chain[:len(chain):len(chain)] // answers grow theirs
	}
	for i := range r.Choices {
		q := &sequence{
			req:    req,
			choice: i,
			slot:   noSlot,
			limit:  limit,
			// Answers grow; prompts are shared between choices until they do.
			tokens: r.Prompt[:len(r.Prompt):len(r.Prompt)],
			chain:  chain,
		}
		req.sequences = append(req.sequences, q)
		s.enqueue(q)
	}
	s.requests[r.ID] = req
	s.queued++
	s.joinShare(r.Tenant)
	return nil
}

// Fits says whether a request can ever run within the limits: nil, a
// *TooLongError, or what is wrong with it.
func Fits(r Request, l engine.Limits) error {
	switch {
	case len(r.Prompt) == 0:
		return errors.New("scheduler: an empty prompt")
	case len(r.Prompt) >= l.SlotTokens:
		return &TooLongError{Tokens: len(r.Prompt), Limit: l.SlotTokens - 1}
	case r.Choices < 0 || r.MaxTokens < -1 || r.MaxTokens == -1 && !r.PromptScores:
		return fmt.Errorf("scheduler: %d choices of %d tokens", r.Choices, r.MaxTokens)
	}
	for _, t := range r.Prompt {
		if t < 0 || int(t) >= l.Vocab {
			return fmt.Errorf("scheduler: token %d; the vocabulary has %d", t, l.Vocab)
		}
	}
	return r.Sampling.Check(l.Vocab)
}

// Cancel ends what is left of a request, in any state. It must not be called
// while a plan is in flight. An unknown ID is no error: it has ended.
func (s *Scheduler) Cancel(id ID, now Tick) []Event {
	req := s.requests[id]
	if req == nil {
		return nil
	}
	var events []Event
	for _, q := range req.sequences {
		events = s.end(events, q, FinishCancel, nil, now)
	}
	return events
}

// CancelChoice ends one choice of a request.
func (s *Scheduler) CancelChoice(id ID, choice int, now Tick) []Event {
	req := s.requests[id]
	if req == nil || choice < 0 || choice >= len(req.sequences) {
		return nil
	}
	return s.end(nil, req.sequences[choice], FinishCancel, nil, now)
}

// end takes a sequence out, wherever it is.
func (s *Scheduler) end(events []Event, q *sequence, f Finish, err error, now Tick) []Event {
	if q.ended {
		return events
	}
	if q.slot != noSlot {
		s.vacate(q)
	} else {
		if q.fetching {
			q.fetching = false
			s.disclaim(q, len(q.chain))
		}
		s.waiting = slices.DeleteFunc(s.waiting, func(o *sequence) bool { return o == q })
	}
	q.ended = true
	if q.peak > 0 {
		s.acquit(q)
	}
	req := q.req
	if req.left--; req.left == 0 {
		if !req.started() {
			s.queued--
		}
		delete(s.requests, req.ID)
		s.leaveShare(req.Tenant)
	}
	return append(events, Event{ID: req.ID, Choice: q.choice, Kind: EventDone, At: now, Finish: f, Err: err})
}

// started reports whether any of a request's sequences has had a slot.
func (r *request) started() bool {
	return slices.ContainsFunc(r.sequences, func(q *sequence) bool { return q.admitted })
}

// vacate takes a sequence off its slot.
func (s *Scheduler) vacate(q *sequence) {
	s.retire(q)
	s.cells.Cut(q.slot, 0)
	s.slots[q.slot] = nil
	s.dirty[q.slot] = true
	q.slot = noSlot
	q.computed, q.read = 0, 0
}

// Next plans a step. A plan whose Step is 0 is empty: there is nothing to do. One
// without passes may have edits that are to be done. Requests whose deadline has passed while they waited end, and
// admissions are reported, in events. A plan must be followed by Apply for each
// of its passes, or by Fail, before the next.
func (s *Scheduler) Next(now Tick) (engine.Plan, []Event) {
	if s.flight != nil {
		panic("scheduler: Next while a plan is in flight")
	}
	b := &builder{s: s, now: now, events: s.Expire(now)}
	b.publish()
	b.checkpoint()
	b.dropDirty()
	b.makeRoom()
	b.compact()
	b.admit()
	b.decodePass()
	b.prefillPasses()
	if len(b.plan.Passes) == 0 && len(b.saved) == 0 {
		// Edits wait for a step that computes; nothing has been promised yet.
		b.undoDrops()
		return engine.Plan{}, b.events
	}
	s.step++
	s.lost = false
	b.plan.Step, b.plan.Expected = s.step, int64(b.expected()+s.costs.copy(b.copies))
	s.flight, s.rows, s.shapes, s.copies, s.saved = &b.plan, b.rows, b.shapes, b.copies, b.saved
	return b.plan, b.events
}

// Expire ends requests whose deadline has passed while they waited, as Next does. It
// must not be called while a plan is in flight.
func (s *Scheduler) Expire(now Tick) []Event {
	var events []Event
	for i := 0; i < len(s.waiting); {
		q := s.waiting[i]
		if d := q.req.Deadline; d != 0 && now >= d && !q.req.started() {
			for _, o := range q.req.sequences {
				events = s.end(events, o, FinishExpired, nil, now)
			}
			continue
		}
		i++
	}
	return events
}

// builder is a plan in the making.
type builder struct {
	s      *Scheduler
	now    Tick
	plan   engine.Plan
	rows   [][]*sequence
	shapes []shape
	events []Event
	copies copies
	saved  []int32

	guessed int // tokens that its decode passes verify
}

func (b *builder) edit(e engine.Edit) { b.plan.Edits = append(b.plan.Edits, e) }

// dropDirty empties the slots that nobody uses any more.
func (b *builder) dropDirty() {
	for i, d := range b.s.dirty {
		if d {
			b.edit(engine.Edit{Kind: engine.EditDrop, Slot: int32(i)})
			b.s.dirty[i] = false
		}
	}
}

func (b *builder) undoDrops() {
	for _, e := range b.plan.Edits {
		if e.Kind == engine.EditDrop {
			b.s.dirty[e.Slot] = true
		}
	}
}

// Apply takes the output of a pass of the plan in flight; the last pass lands it.
// Events share the output's memory.
func (s *Scheduler) Apply(out engine.Output, now Tick) ([]Event, error) {
	if s.flight != nil && out.Step == s.flight.Step && out.Pass == -1 && len(s.flight.Passes) == 0 {
		s.keep()
		s.land()
		return nil, nil
	}
	if s.flight == nil || out.Step != s.flight.Step || out.Pass < 0 || out.Pass >= len(s.flight.Passes) {
		return nil, fmt.Errorf("scheduler: output of step %d, pass %d, which is not in flight", out.Step, out.Pass)
	}
	s.keep()
	s.applied, s.barren = out.Pass+1, 0
	pass := &s.flight.Passes[out.Pass]
	if len(out.Rows) != len(pass.Rows) {
		return nil, fmt.Errorf("scheduler: %d rows of output for a pass of %d", len(out.Rows), len(pass.Rows))
	}
	s.costs.observe(s.shapes[out.Pass], out.Nanos-out.DraftNanos)
	s.costs.observeDraft(s.shapes[out.Pass], out.DraftNanos)
	s.undrafted(pass)
	if out.Pass == 0 {
		s.costs.observeCopies(s.copies, out.EditNanos)
	}
	events := make([]Event, 0, len(pass.Rows))
	for i, q := range s.rows[out.Pass] {
		if q != nil && !q.ended {
			events = s.advance(events, q, &pass.Rows[i], &out.Rows[i], now)
		}
	}
	if out.Pass == len(s.flight.Passes)-1 {
		s.land()
	}
	return events, nil
}

func (s *Scheduler) land() {
	s.flight, s.rows, s.shapes, s.saved, s.applied = nil, nil, nil, nil, 0
}

// advance records what a row computed and drew.
func (s *Scheduler) advance(events []Event, q *sequence, row *engine.Row, out *engine.RowOutput, now Tick) []Event {
	right := max(0, len(out.Sampled)-1)
	q.computed += len(row.Tokens) + right
	s.cells.Grow(q.slot, len(row.Tokens)+right)
	guessed, accepted := s.drafted(q, row, out, right)
	if len(row.Guess) > 0 && q.proposed > 0 {
		guessed, accepted = q.proposed, right
		s.guesses.count(guessed, accepted)
		q.proposed = 0
	}
	if q.computed > q.furthest {
		q.furthest, q.stalled = q.computed, 0
	}
	if q.peak > 0 && q.computed >= q.peak {
		s.acquit(q)
	}
	s.charge(q.req.Tenant, len(row.Tokens), len(out.Sampled))
	ev := Event{ID: q.req.ID, Choice: q.choice, Kind: EventTokens, At: now, Guessed: guessed, Accepted: accepted}
	if q.scores() {
		ev.Scores = out.Scores
		q.scored += len(out.Scores)
	}
	finish := FinishNone
	if q.req.MaxTokens == -1 && q.computed == len(q.req.Prompt) {
		finish = FinishLength
	}
	for i, t := range out.Sampled {
		if slices.Contains(q.req.Stop, t.Token) {
			finish = FinishStop
			break
		}
		s.drew(q, t.Token)
		q.tokens = append(q.tokens, t.Token)
		ev.Tokens = out.Sampled[:i+1]
		if len(q.tokens) >= q.limit {
			finish = FinishLength
			break
		}
	}
	if len(ev.Tokens) > 0 || len(ev.Scores) > 0 {
		events = append(events, ev)
	}
	if finish != FinishNone {
		q.computed = min(q.computed, len(q.tokens)) // a guess may have gone on behind the end
		events = s.end(events, q, finish, nil, now)
	}
	return events
}

// Fail says that the plan in flight ended with an error: nothing is known of the
// slots any more. Running sequences wait again with what they have; one on which the
// engine fails again and again, at last on it alone, ends with FinishError.
func (s *Scheduler) Fail(err error, now Tick) []Event {
	accused := s.accused(err)
	if s.cfg.Pages != nil {
		s.cfg.Pages.Lost()
	}
	s.land()
	s.lost = true
	for i, q := range s.slots {
		s.dirty[i] = i < s.cfg.Limits.Slots // idle rows leave nothing in scratch slots
		if q != nil {
			s.vacate(q)
			s.enqueue(q)
		}
	}
	events := s.judge(nil, accused, err, now)
	s.retired = s.retired[:0] // nobody knows what those slots hold
	return events
}

// Abandon ends every request with an error: there is no engine to run them.
func (s *Scheduler) Abandon(err error, now Tick) []Event {
	var events []Event
	for _, list := range [2][]*sequence{slices.Clone(s.slots), slices.Clone(s.waiting)} {
		for _, q := range list {
			if q != nil {
				events = s.end(events, q, FinishError, err, now)
			}
		}
	}
	return events
}

// Expected is what a pass of the plan in flight is predicted to take, in
// nanoseconds; 0 if there is no such pass. Apply learns from the pass, so ask before.
func (s *Scheduler) Expected(pass int) int64 {
	if pass < 0 || pass >= len(s.shapes) {
		return 0
	}
	return int64(s.costs.predict(s.shapes[pass]) + s.costs.predictDraft(s.shapes[pass]))
}

// Moved is how many tokens' KV the latest plan's edits copy: moves, forks, and pages
// read and written.
func (s *Scheduler) Moved() int { return s.copies.moved }

// Stats are counts for gauges.
type Stats struct {
	Waiting     int // sequences without a slot
	Running     int // sequences with one
	Decoding    int // of Running: those that only decode
	Queued      int // requests that have not started
	TokensInUse int // tokens in slots, those that slots share counted once
	Preemptions int // sequences that lost their slot to others, ever
	Guesses     Guesses
	Drafts      Guesses // of Guesses, the draft model's

	Pages cache.Stats // of the host pages; zero without
}

// Stats counts.
func (s *Scheduler) Stats() Stats {
	st := Stats{Waiting: len(s.waiting), Queued: s.queued, Preemptions: s.preemptions, TokensInUse: s.cells.Used(), Guesses: s.guesses, Drafts: s.drafts}
	if s.cfg.Pages != nil {
		st.Pages = s.cfg.Pages.Stats()
	}
	for _, q := range s.slots {
		if q != nil {
			st.Running++
			if q.decodes() {
				st.Decoding++
			}
		}
	}
	return st
}
