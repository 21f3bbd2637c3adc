package scheduler

import (
	"slices"

	"llamero/engine"
)

// Calibration measures an idle engine by plans of idle rows, the most telling
// first, so that it can stop at any time: whoever runs it does as many as it has
// time for, hands the outputs to Observe and calls Close. Without the first plans,
// which Needed tells, predictions are guesses: they are worth waiting for.
type Calibration struct {
	s       *Scheduler
	plans   []engine.Plan
	next    int
	needed  int  // so many plans
	repeats int  // how often they have begun again
	cold    bool // the first output is a warm-up
	readAt  int  // the plan in which the draft model reads the prompt

	second map[int]float64 // by width: what it took at the second best

	small, large    measurement // two prompt chunks
	deep, deepChunk measurement // behind a prompt: a row that guesses, and a chunk
	reading         measurement // what the draft model takes for that prompt
	drafting        measurement // and for some tokens behind it
}

const (
	// A machine that does something else shows in the two best takes of a pass, which then
	// differ by more than unsteady: what is needed is measured again, and the least counts,
	// until they agree or time is up.
	unsteady    = 1.25
	mostRepeats = 8

	calibrationDraft = 4 // tokens that are drafted to see what one costs
	calibrationGuess = 4 // rows of a sequence that are computed behind a prompt
)

type measurement struct {
	tokens       int
	nanos, depth float64
}

// least is the shorter of two measurements of the same; one that is empty is none.
func (m measurement) least(o measurement) measurement {
	if m.tokens > 0 && m.nanos <= o.nanos {
		return m
	}
	return o
}

// Calibrate begins a calibration. No request may run.
func (s *Scheduler) Calibrate() *Calibration {
	c := &Calibration{s: s, cold: true, second: map[int]float64{}}
	l := s.cfg.Limits
	small := min(64, l.PassTokens, l.SlotTokens)
	large := min(256, l.PassTokens, l.SlotTokens-1)
	idle := func(slot, n int) engine.Row {
		return engine.Row{Slot: int32(slot), Tokens: make([]engine.Token, n), Idle: true}
	}
	add := func(kind engine.PassKind, rows ...engine.Row) {
		c.plans = append(c.plans, engine.Plan{Passes: []engine.Pass{{Kind: kind, Rows: rows}}})
	}
	width := func(w int) {
		if l.Layout == engine.Unified {
			add(engine.PassDecode, idle(l.Slots, w)) // the scratch slot: any mix costs the same
			return
		}
		each := 1 // more where there are fewer slots: as a guess would
		for w%each != 0 || w/each > l.Slots+l.Scratch {
			each++
		}
		if each > l.SlotTokens {
			return
		}
		rows := make([]engine.Row, w/each)
		for i := range rows {
			rows[i] = idle(i, each)
		}
		add(engine.PassDecode, rows...)
	}
	most := min(len(s.costs.width)-1, l.PassTokens, l.PoolTokens)
	add(engine.PassDecode, idle(0, 1))
	for w := 1; w <= min(calibrationGuess, most); w *= 2 { // what a guess of a token or three costs
		width(w)
		width(w)
	}
	add(engine.PassPrefill, idle(0, small))
	// A real prompt, dropped afterwards, for a decode pass at depth.
	c.plans = append(c.plans, engine.Plan{
		Edits:  []engine.Edit{{Kind: engine.EditOpen, Slot: 0}},
		Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Tokens: make([]engine.Token, large)}}}},
	})
	if l.Trims {
		deep := func(kind engine.PassKind, n int) {
			if large+n > l.SlotTokens {
				return
			}
			row := idle(0, n)
			row.Pos = int32(large)
			add(kind, row)
		}
		// One row pays for more than its depth, and so does the first pass of its kind.
		for range 2 {
			deep(engine.PassDecode, min(calibrationGuess, most))
		}
		deep(engine.PassPrefill, small)
	}
	c.readAt = len(c.plans)
	if n := min(calibrationDraft, l.Draft, l.SlotTokens-large-1); n > 0 {
		// Not for what it says: the draft model reads the prompt, and then goes on.
		for _, draft := range []int{1, n, n} {
			c.plans = append(c.plans, engine.Plan{
				Edits:  []engine.Edit{{Kind: engine.EditTrim, Slot: 0, Len: int32(large)}},
				Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: []engine.Row{{Pos: int32(large), Tokens: make([]engine.Token, 1), Sample: true, Draft: int32(draft)}}}},
			})
		}
	}
	c.needed = len(c.plans)
	// 1, 2, 4, … and what rounds up to them; then the rest; then all again, since
	// the least of two is nearer the truth on a noisy machine.
	var order []int
	for w := 1; w <= most; w *= 2 {
		order = append(order, w)
		if w > 4 {
			order = append(order, w-1)
		}
	}
	order = append(order, most)
	for w := 4; w <= most; w += 4 {
		order = append(order, w, w-1)
	}
	for w := 1; w <= most; w++ {
		order = append(order, w)
	}
	seen := make([]bool, most+1)
	order = slices.DeleteFunc(order, func(w int) bool {
		was := seen[w]
		seen[w] = true
		return was
	})
	for range 2 {
		for _, w := range order {
			width(w)
		}
	}
	drop := &c.plans[c.needed]
	drop.Edits = append(drop.Edits, engine.Edit{Kind: engine.EditDrop, Slot: 0})
	return c
}

// Needed reports whether the next plan is one of those without which predictions would
// be guesses.
func (c *Calibration) Needed() bool { return c.next < c.needed || c.again() }

// again reports whether what is needed should be measured once more.
func (c *Calibration) again() bool {
	if c.next != c.needed || c.repeats == mostRepeats {
		return false
	}
	for w, nanos := range c.second {
		if nanos > unsteady*c.s.costs.width[w] {
			return true
		}
	}
	return false
}

// Expected is what the next plan may take, in nanoseconds, as far as that is known:
// whether there is time for a long prompt is seen by a short one.
func (c *Calibration) Expected() float64 {
	if c.next == len(c.plans) || c.large.tokens == 0 {
		return 0
	}
	tokens := 0
	for _, r := range c.plans[c.next].Passes[0].Rows {
		tokens += len(r.Tokens)
	}
	if tokens <= c.large.tokens {
		return 0
	}
	return c.large.nanos * float64(tokens) / float64(c.large.tokens)
}

// Next returns the next plan to run, or false when all have run.
func (c *Calibration) Next() (engine.Plan, bool) {
	if c.next == len(c.plans) {
		return engine.Plan{}, false
	}
	p := c.plans[c.next]
	if c.again() {
		c.next, c.repeats = 0, c.repeats+1
		p = c.plans[0]
		p.Edits = []engine.Edit{{Kind: engine.EditDrop, Slot: 0}}
	}
	c.next++
	return p, true
}

// Observe takes the output of the plan that Next returned last.
func (c *Calibration) Observe(out engine.Output) {
	pass := &c.plans[c.next-1].Passes[0]
	costs := c.s.costs
	m := measurement{nanos: float64(out.Nanos), depth: float64(pass.Rows[0].Pos)}
	for i := range pass.Rows {
		m.tokens += len(pass.Rows[i].Tokens)
	}
	switch draft := int(pass.Rows[0].Draft); {
	case draft > 0 && c.next-1 == c.readAt:
		c.reading = c.reading.least(measurement{tokens: int(pass.Rows[0].Pos), nanos: float64(out.DraftNanos)})
	case draft > 0:
		c.drafting = c.drafting.least(measurement{tokens: draft, nanos: float64(out.DraftNanos)})
	case c.cold: // the first pass pays for memory that is touched for the first time
		c.cold = false
	case pass.Kind == engine.PassPrefill && m.depth > 0:
		c.deepChunk = c.deepChunk.least(m)
	case pass.Kind == engine.PassPrefill && pass.Rows[0].Idle:
		c.small = c.small.least(m)
	case pass.Kind == engine.PassPrefill:
		c.large = c.large.least(m)
	case m.depth > 0:
		c.deep = c.deep.least(m)
	case !costs.measured[m.tokens]:
		costs.width[m.tokens], costs.measured[m.tokens] = m.nanos, true
	default:
		least, second := costs.width[m.tokens], c.second[m.tokens]
		if second == 0 || m.nanos < second {
			c.second[m.tokens] = max(least, m.nanos)
		}
		costs.width[m.tokens] = min(least, m.nanos)
	}
}

// Close fits the model to what has been measured.
func (c *Calibration) Close() {
	costs := c.s.costs
	costs.interpolate()
	// What is measured to cost more than two passes that do the same was measured badly.
	for w := 2; w < len(costs.width); w++ {
		for part := 1; part <= w/2; part++ {
			costs.width[w] = min(costs.width[w], costs.width[part]+costs.width[w-part])
		}
	}
	if d := c.deep; d.depth > 0 && costs.measured[d.tokens] {
		costs.perDepth = max(1, (d.nanos-costs.width[d.tokens])/(float64(d.tokens)*d.depth))
	}
	// A short chunk at depth tells little above the noise: bounds keep it sane.
	costs.chunkDepth = costs.perDepth / 3
	if a, d := c.small, c.deepChunk; d.depth > 0 && a.tokens == d.tokens {
		least, most := costs.perDepth/20, costs.perDepth
		costs.chunkDepth = min(max((d.nanos-a.nanos)/(float64(d.tokens)*d.depth), least), most)
	}
	if a, b := c.small, c.large; a.tokens > 0 && b.tokens > a.tokens {
		attention := func(m measurement) float64 { return costs.chunkDepth * float64(m.tokens) * float64(m.tokens) / 2 }
		na, nb := a.nanos-attention(a), b.nanos-attention(b)
		costs.chunkToken = max((nb-na)/float64(b.tokens-a.tokens), b.nanos/float64(b.tokens)/4)
		costs.chunkBase = max(0, na-costs.chunkToken*float64(a.tokens))
	}
	switch d := c.drafting; {
	case d.nanos > 0:
		costs.draftStep = d.nanos / float64(d.tokens)
		costs.draftToken = max(costs.draftStep, c.reading.nanos-costs.draftStep) / float64(max(1, c.reading.tokens))
	case costs.drafts(): // there was no time for it
		costs.draftStep, costs.draftToken = draftShare*costs.width[1], draftShare*costs.chunkToken
	}
	c.s.dirty[0] = true // a calibration that was cut short has left its prompt there
}

// interpolate fills the widths that have not been measured from their neighbours.
func (c *Costs) interpolate() {
	last := 0 // the latest measured width
	for w := 1; w < len(c.width); w++ {
		if !c.measured[w] {
			continue
		}
		for v := last + 1; v < w; v++ {
			if last == 0 {
				c.width[v] = c.width[w] // no narrower one is known: certainly no more
				continue
			}
			part := float64(v-last) / float64(w-last)
			c.width[v] = c.width[last] + part*(c.width[w]-c.width[last])
		}
		last = w
	}
	if last == 0 {
		return
	}
	perRow := 0.0
	if last > 1 {
		perRow = max(0, (c.width[last]-c.width[1])/float64(last-1))
	}
	for v := last + 1; v < len(c.width); v++ {
		c.width[v] = c.width[last] + perRow*float64(v-last)
	}
}
