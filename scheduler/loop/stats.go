package loop

import (
	"time"

	"llamero/cache"
	"llamero/engine"
	"llamero/scheduler"
)

// Stats is a snapshot for gauges and health checks.
type Stats struct {
	Running, Waiting int    // answers with a slot; answers without
	Decoding         int    // of Running: those whose prompt is computed
	Slots            int    // there are
	Ready            bool   // engine alive and not draining; of a Group's engines, one at least
	TokensInUse      int    // KV tokens held by slots
	PoolTokens       int    // KV tokens that slots can hold together
	Requests         int    // taken, ever
	Preemptions      int    // answers that lost their slot to others, ever
	Failures         int    // steps that failed, ever
	Unread           int    // tokens in mailboxes
	Costs            *Costs // of a Group, its first engine's
	Guesses          scheduler.Guesses
	Drafts           scheduler.Guesses // of Guesses, the draft model's
	Pages            cache.Stats       // of the host pages; zero without
}

// Costs are what the scheduler has learnt that passes take, in nanoseconds.
type Costs struct {
	Decode      []float64 // a decode pass by its rows, at depth 0; index 0 is unused
	PromptToken float64   // a prompt's token, at depth 0
}

// Stats returns the latest snapshot; it never waits for a step. Whether the engine is
// alive it says as of now: it may die while nothing runs.
func (l *Loop) Stats() Stats {
	st := *l.stats.Load()
	st.Ready = st.Ready && l.up()
	return st
}

// up reports whether the engine runs.
func (l *Loop) up() bool {
	r, ok := l.eng.(engine.Restarter)
	return !ok || r.Ready()
}

// add adds the figures of another loop of a Group. Pages are common to all.
func (s *Stats) add(o *Stats) {
	s.Running += o.Running
	s.Waiting += o.Waiting
	s.Decoding += o.Decoding
	s.Slots += o.Slots
	s.Ready = s.Ready || o.Ready
	s.TokensInUse += o.TokensInUse
	s.PoolTokens += o.PoolTokens
	s.Requests += o.Requests
	s.Preemptions += o.Preemptions
	s.Failures += o.Failures
	s.Unread += o.Unread
	s.Guesses.Add(&o.Guesses)
	s.Drafts.Add(&o.Drafts)
	if s.Costs == nil {
		s.Costs = o.Costs
	}
}

// publish makes the state visible to Stats.
func (l *Loop) publish() {
	l.account.mu.Lock()
	st := l.sched.Stats()
	l.account.mu.Unlock()
	l.mu.Lock()
	ready := !l.draining && !l.closing
	l.mu.Unlock()
	unread := 0
	for _, s := range l.streams {
		unread += int(s.unread.Load())
	}
	if now := time.Now(); now.Sub(l.looked) >= costsPeriod {
		l.looked = now
		c := l.sched.Costs()
		l.costs = &Costs{Decode: c.Widths(), PromptToken: c.ChunkToken()}
	}
	l.stats.Store(&Stats{
		Running: st.Running, Decoding: st.Decoding, Waiting: st.Waiting + len(l.submit), Slots: l.limits.Slots, Ready: ready,
		TokensInUse: st.TokensInUse, PoolTokens: l.limits.PoolTokens, Requests: l.requests, Preemptions: st.Preemptions, Failures: l.failed, Unread: unread, Costs: l.costs,
		Guesses: st.Guesses, Drafts: st.Drafts, Pages: st.Pages,
	})
}

// costsPeriod is how old the costs in Stats may be while steps run.
const costsPeriod = time.Second
