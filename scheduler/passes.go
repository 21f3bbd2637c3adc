package scheduler

import (
	"cmp"
	"slices"

	"llamero/engine"
	"llamero/tokenizer"
)

const (
	// chunkAlign is where prompt chunks end if they can: aligned chunks drift less. To
	// align to whole tiles would leave more of a step's time unused than it gains.
	chunkAlign = 32
	// chunkLeast is the smallest chunk: what a step always gives to prompts.
	chunkLeast = 16
	// freeTarget is the time in nanoseconds that prompt chunks may take while nobody
	// decodes, if the target is lower: a newcomer still gets in within it.
	freeTarget = 250e6
	// promptShare is the least time that a step gives to prompts, as a part of its
	// decode pass: where that pass alone takes the target or longer, newcomers would
	// otherwise starve.
	promptShare = 0.5
	// tailSlack is how far over its time a chunk may go to take a short tail along.
	tailSlack = 0.1
	// crowdSlack is how many times the target a step may take that reads all prompts
	// which have a slot to their ends, where crowd times as many wait for their first
	// token as for their next. Followers of one prompt come so: cut into several steps,
	// the first of them would wait for the last. And so do all when an engine has died:
	// nobody has a token then, and who has it first would take time from the others.
	crowdSlack = 3
	crowd      = 4
	// maxChunks bounds the prompt passes of a step.
	maxChunks = 16
)

// addPass appends a pass, with who is behind its rows.
func (b *builder) addPass(kind engine.PassKind, rows []engine.Row, who []*sequence, depth int) {
	sh := shape{kind: kind, rows: len(rows), depth: depth}
	for i := range rows {
		sh.tokens += rows[i].Width()
		if n := int(rows[i].Draft); n > 0 {
			sh.drafting++
			sh.drafted = max(sh.drafted, n)
			sh.unread += who[i].unread()
		}
	}
	if kind == engine.PassDecode {
		sh.rows = sh.tokens // in the unified layout idle tokens share a row
	}
	b.plan.Passes = append(b.plan.Passes, engine.Pass{Kind: kind, Rows: rows})
	b.rows = append(b.rows, who)
	b.shapes = append(b.shapes, sh)
}

// expected is what the passes so far are predicted to take.
func (b *builder) expected() float64 {
	var sum float64
	for _, sh := range b.shapes {
		sum += b.s.costs.predict(sh) + b.s.costs.predictDraft(sh)
	}
	return sum
}

// decodeRow is the row of a sequence with one token to compute.
func decodeRow(q *sequence) engine.Row {
	return engine.Row{
		Slot:   q.slot,
		Pos:    int32(q.computed),
		Tokens: q.tokens[q.computed:],
		Sample: q.req.MaxTokens != -1,
	}
}

// idleRow computes n tokens behind whatever a slot holds.
func idleRow(slot int32, q *sequence, n int) engine.Row {
	r := engine.Row{Slot: slot, Tokens: make([]engine.Token, n), Idle: true}
	if q != nil {
		r.Pos = int32(q.computed)
	}
	return r
}

// decodePass plans a row for every sequence that is one token behind.
func (b *builder) decodePass() {
	if b.s.cfg.Limits.Layout == engine.Unified {
		b.decodeUnified()
		return
	}
	s := b.s
	lo, hi := int32(-1), int32(-1)
	for i, q := range s.slots {
		if q != nil && q.decodes() {
			if lo < 0 {
				lo = int32(i)
			}
			hi = int32(i)
		}
	}
	if lo < 0 {
		return
	}
	// A slot that an idle row cannot stand in ends a window.
	start := lo
	for i := lo; i <= hi; i++ {
		if q := s.slots[i]; q != nil && !q.decodes() && !s.cfg.Limits.Trims {
			b.decodeWindow(start, i-1)
			start = i + 1
		}
	}
	b.decodeWindow(start, hi)
}

// decodeWindow plans one pass over consecutive slots, holes plugged, rounded up to
// a width that costs less.
func (b *builder) decodeWindow(lo, hi int32) {
	s := b.s
	decodes := func(i int32) bool { return s.slots[i] != nil && s.slots[i].decodes() }
	for lo <= hi && !decodes(lo) {
		lo++
	}
	for lo <= hi && !decodes(hi) {
		hi--
	}
	if lo > hi {
		return
	}
	idles := func(i int32) bool { return s.slots[i] == nil || s.cfg.Limits.Trims && !decodes(i) }
	most := int(hi-lo) + 1
	for i := hi + 1; int(i) < len(s.slots) && idles(i); i++ {
		most++
	}
	for i := lo - 1; i >= 0 && idles(i); i-- {
		most++
	}
	width := s.costs.round(int(hi-lo)+1, b.depth(lo, hi), min(most, s.cfg.Limits.PassTokens))
	// Where lengths differ widely, two passes may cost less than one whose every row
	// reads the longest row's mask.
	whole := s.costs.decode(width, b.depth(lo, hi)) * roundGain
	cut := int32(-1)
	for i := lo; i < hi; i++ {
		if two := b.windowCost(lo, i) + b.windowCost(i+1, hi); two < whole {
			whole, cut = two, i
		}
	}
	if cut >= 0 {
		b.decodeWindow(lo, cut)
		b.decodeWindow(cut+1, hi)
		return
	}
	guess, drafts := b.guessEvenly(lo, hi, s.costs.decode(width, b.depth(lo, hi)))
	if guess > 0 {
		width = int(hi-lo) + 1
	}
	for int(hi-lo)+1 < width {
		if int(hi)+1 < len(s.slots) && idles(hi+1) {
			hi++
		} else {
			lo--
		}
	}
	rows := make([]engine.Row, 0, hi-lo+1)
	who := make([]*sequence, 0, hi-lo+1)
	for i := lo; i <= hi; i++ {
		q := s.slots[i]
		if decodes(i) {
			rows, who = append(rows, guessRow(q, depth{guess, drafts[q]})), append(who, q)
		} else {
			rows, who = append(rows, idleRow(i, q, 1+guess)), append(who, nil)
		}
	}
	b.guessed += guess * len(rows)
	b.addPass(engine.PassDecode, rows, who, b.depth(lo, hi)*(1+guess))
}

// windowCost predicts a pass over slots lo to hi.
func (b *builder) windowCost(lo, hi int32) float64 {
	return b.s.costs.decode(int(hi-lo)+1, b.depth(lo, hi))
}

// depth is what the rows of a window attend to.
func (b *builder) depth(lo, hi int32) int {
	sum, longest := 0, 0
	for _, q := range b.s.slots[lo : hi+1] {
		if q != nil {
			sum += q.computed
			longest = max(longest, q.computed)
		}
	}
	return attended(int(hi-lo)+1, sum, longest)
}

func (b *builder) decodeUnified() {
	s := b.s
	var who []*sequence
	for _, q := range s.slots {
		if q != nil && q.decodes() {
			who = append(who, q)
		}
	}
	if len(who) == 0 {
		return
	}
	used := s.cells.Used()
	own := 0
	for _, q := range who {
		own += q.computed
	}
	room := s.cfg.Limits.PoolTokens - used
	n := len(who)
	depth := attended(n, own, used)
	width := s.costs.round(n, depth, min(room, s.cfg.Limits.PassTokens))
	guess := b.guessFreely(who, depth, room, s.costs.decode(width, depth))
	rows := make([]engine.Row, 0, n+1)
	for _, q := range who {
		rows = append(rows, guessRow(q, guess[q]))
		b.guessed += guess[q].tokens
	}
	if b.guessed > 0 {
		depth += b.guessed * depth / n
		n += b.guessed
		width = s.costs.round(n, depth, min(room, s.cfg.Limits.PassTokens))
	}
	if width > n {
		rows, who = append(rows, idleRow(int32(s.cfg.Limits.Slots), nil, width-n)), append(who, nil)
	}
	b.addPass(engine.PassDecode, rows, who, depth)
}

// prefillPasses gives the time that is left to prompts, in the order in which
// they are served.
func (b *builder) prefillPasses() {
	s := b.s
	l := s.cfg.Limits
	var behind []*sequence
	decoders := 0
	for _, q := range s.slots {
		switch {
		case q == nil:
		case q.decodes():
			decoders++
		default:
			behind = append(behind, q)
		}
	}
	slices.SortFunc(behind, func(x, y *sequence) int {
		if x.before(y) {
			return -1
		}
		return 1
	})
	target := float64(s.cfg.TargetITL)
	if decoders == 0 {
		target = max(target, freeTarget)
	}
	target = max(target, (1+promptShare)*b.expected())
	if (decoders > 0 || s.lost) && len(behind) >= crowd*decoders {
		if all := b.expected() + b.prompts(behind); all <= crowdSlack*target {
			target = crowdSlack * target
		}
	}
	room := l.PoolTokens - s.cells.Used() - decoders - b.guessed
	done := make(map[*sequence]bool)
	most := len(b.plan.Passes) + maxChunks
	for _, q := range behind {
		if len(b.plan.Passes) == most {
			return
		}
		if done[q] {
			continue
		}
		depth := q.computed
		if l.Layout == engine.Unified {
			depth = s.cells.Used() // what every row attends to
		}
		c := b.take(q, target-b.expected(), depth, room, len(done) == 0)
		if c == 0 {
			if len(done) > 0 || room == 0 {
				return
			}
			continue
		}
		rows, who := []engine.Row{chunkRow(q, c)}, []*sequence{q}
		done[q] = true
		room -= c
		rows, who = b.join(rows, who, behind, done, &room, target-b.expected(), depth)
		b.addPass(engine.PassPrefill, rows, who, depth)
	}
}

// evenShare is how many tokens a pass should have that reads a prompt's last c and
// others behind it to their ends: where they need several passes, as many in each, so
// that the first of them have their tokens sooner, and the last no later.
func evenShare(c int, behind []*sequence, done map[*sequence]bool, most int) int {
	tokens := c
	for _, q := range behind {
		if !done[q] && !q.scores() && q.gap() <= most {
			tokens += q.gap()
		}
	}
	passes := (tokens + most - 1) / most
	return (tokens + passes - 1) / passes
}

// prompts predicts what it takes to read prompts to their ends, where those that may
// share passes do: see join.
func (b *builder) prompts(behind []*sequence) float64 {
	s := b.s
	split := s.cfg.Limits.Layout == engine.Split
	tokens, depth, sum := 0, 0, 0.0
	for _, q := range behind {
		if split && q.gap() > chunkAlign {
			sum += s.costs.chunk(q.gap(), q.computed)
			continue
		}
		tokens += q.gap()
		depth = max(depth, q.computed)
	}
	if !split {
		depth = s.cells.Used()
	}
	for most := s.cfg.Limits.PassTokens; tokens > 0; tokens -= most {
		sum += s.costs.chunk(min(tokens, most), depth)
	}
	return sum
}

// take says how many of a sequence's tokens the next chunk computes: what the
// time allows, at least the smallest chunk if it is the first, 0 if it must wait.
func (b *builder) take(q *sequence, nanos float64, depth, room int, first bool) int {
	l := b.s.cfg.Limits
	gap := q.gap()
	most := min(l.PassTokens, room, gap)
	if q.scores() {
		if q.computed < q.scored {
			most = min(most, q.scored-q.computed) // computed again: emitted already
		} else {
			most = min(most, l.PassOutputs)
		}
	}
	c := b.s.costs.chunkFor(nanos, depth, most)
	least := min(chunkLeast, most)
	switch {
	case c == gap:
		return c
	case !first && c < tileRows:
		return 0 // what is left of the time is too little to be used well
	case c < least:
		c = least
	}
	if most == gap && gap-c < tileRows && b.s.costs.chunk(gap, depth) <= nanos*(1+tailSlack) {
		return gap // a tail that small would cost far more in a pass of its own
	}
	if left := gap - c; left < tileRows && c-(tileRows-left) >= tileRows {
		c -= tileRows - left // what is left then fills a tile
	}
	if c >= tileRows {
		if end := (q.computed + c) % chunkAlign; c-end >= tileRows {
			return c - end
		}
		return c
	}
	return max(least, c-c%chunkLeast)
}

func chunkRow(q *sequence, c int) engine.Row {
	r := engine.Row{
		Slot:   q.slot,
		Pos:    int32(q.computed),
		Tokens: q.tokens[q.computed : q.computed+c],
		Sample: c == q.gap() && q.req.MaxTokens != -1,
	}
	if q.scores() && q.computed >= q.scored {
		r.Score, r.Next = true, tokenizer.None
		if end := q.computed + c; end < len(q.req.Prompt) {
			r.Next = q.req.Prompt[end]
		}
	}
	return r
}

// join lets other prompts share a chunk's pass where the layout can: short
// prompts fill a pass together that each would leave half empty.
func (b *builder) join(rows []engine.Row, who, behind []*sequence, done map[*sequence]bool, room *int, nanos float64, depth int) ([]engine.Row, []*sequence) {
	s := b.s
	l := s.cfg.Limits
	c := len(rows[0].Tokens)
	total := c
	if rows[0].Score || l.Layout == engine.Split && c > chunkAlign {
		return rows, who
	}
	fits := func(q *sequence, n int) bool {
		return !done[q] && !q.scores() && total+n <= l.PassTokens && *room >= n && s.costs.chunk(total+n, depth) <= nanos
	}
	add := func(q *sequence, n int) {
		rows, who = append(rows, chunkRow(q, n)), append(who, q)
		done[q] = true
		total += n
		*room -= n
	}
	if l.Layout == engine.Unified {
		share := l.PassTokens
		if rows[0].Sample {
			share = evenShare(c, behind, done, l.PassTokens)
		}
		for _, q := range behind {
			if total < share && fits(q, q.gap()) {
				add(q, q.gap())
			}
		}
		return rows, who
	}
	for i := rows[0].Slot + 1; int(i) < l.Slots; i++ {
		q := s.slots[i]
		if q == nil || q.decodes() || q.gap() < c || !fits(q, c) {
			break
		}
		add(q, c)
	}
	for i := rows[0].Slot - 1; i >= 0; i-- {
		q := s.slots[i]
		if q == nil || q.decodes() || q.gap() < c || !fits(q, c) {
			break
		}
		add(q, c)
	}
	order := func(x, y engine.Row) int { return cmp.Compare(x.Slot, y.Slot) }
	slices.SortFunc(rows, order)
	slices.SortFunc(who, func(x, y *sequence) int { return cmp.Compare(x.slot, y.slot) })
	return rows, who
}
