package worker

import "llamero/engine"

// planDecoder decodes plans into memory that the next plan takes over, except for
// what an engine keeps of one: a slot's bias.
type planDecoder struct {
	plan   engine.Plan
	edits  []engine.Edit
	passes []engine.Pass
	rows   []engine.Row
	tokens []engine.Token
	pages  []int32
}

// The fewest bytes of each.
const (
	leastEdit = 3
	leastPass = 2
	leastRow  = 4
	leastBias = 5
)

// decode returns a plan that is valid until the next call. Empty slices come back
// nil.
func (p *planDecoder) decode(b []byte) (*engine.Plan, error) {
	d := decoder{b: b}
	p.tokens, p.pages, p.rows = p.tokens[:0], p.pages[:0], p.rows[:0]
	p.edits, p.passes = p.edits[:0], p.passes[:0]
	p.plan = engine.Plan{Step: d.uvarint(), Expected: d.int64()}
	for range d.count(leastEdit) {
		p.edits = append(p.edits, p.edit(&d))
	}
	for range d.count(leastPass) {
		pass := engine.Pass{Kind: engine.PassKind(d.byte())}
		first := len(p.rows)
		for range d.count(leastRow) {
			p.rows = append(p.rows, p.row(&d))
		}
		if n := len(p.rows); n > first {
			pass.Rows = p.rows[first:n:n]
		}
		p.passes = append(p.passes, pass)
	}
	if len(p.edits) > 0 {
		p.plan.Edits = p.edits
	}
	if len(p.passes) > 0 {
		p.plan.Passes = p.passes
	}
	return &p.plan, d.end()
}

func (p *planDecoder) edit(d *decoder) engine.Edit {
	e := engine.Edit{Kind: engine.EditKind(d.byte())}
	mask := d.byte()
	e.Slot = d.int32()
	if mask&editTo != 0 {
		e.To = d.int32()
	}
	if mask&editLen != 0 {
		e.Len = d.int32()
	}
	if mask&editSampling != 0 {
		e.Sampling = sampling(d)
	}
	if mask&editTokens != 0 {
		e.Tokens = p.tokenList(d)
	}
	if mask&editFirst != 0 {
		e.First = d.int32()
	}
	if mask&editPages != 0 {
		first := len(p.pages)
		for range d.count(1) {
			p.pages = append(p.pages, d.int32())
		}
		if n := len(p.pages); n > first {
			e.Pages = p.pages[first:n:n]
		}
	}
	return e
}

func (p *planDecoder) tokenList(d *decoder) []engine.Token {
	first := len(p.tokens)
	for range d.count(1) {
		p.tokens = append(p.tokens, d.token())
	}
	n := len(p.tokens)
	if n == first {
		return nil
	}
	return p.tokens[first:n:n]
}

func (p *planDecoder) row(d *decoder) engine.Row {
	mask := d.byte()
	r := engine.Row{
		Slot: d.int32(), Pos: d.int32(), Tokens: p.tokenList(d),
		Sample: mask&rowSample != 0, Score: mask&rowScore != 0, Idle: mask&rowIdle != 0,
	}
	if mask&rowNext != 0 {
		r.Next = d.token()
	}
	if mask&rowGuess != 0 {
		r.Guess = p.tokenList(d)
	}
	if mask&rowDraft != 0 {
		r.Draft = d.int32()
	}
	return r
}

func sampling(d *decoder) (s engine.Sampling) {
	mask := d.uint16()
	for _, f := range samplingFloats(&s) {
		if mask&f.bit != 0 {
			*f.v = d.float32()
		}
	}
	if mask&setTopK != 0 {
		s.TopK = d.int32()
	}
	if mask&setBias != 0 {
		if n := d.count(leastBias); n > 0 {
			s.Bias = make([]engine.Bias, n)
			for i := range s.Bias {
				s.Bias[i] = engine.Bias{Token: d.token(), Add: d.float32()}
			}
		}
	}
	if mask&setSeed != 0 {
		s.Seed = d.uint64()
	}
	if mask&setChoice != 0 {
		s.Choice = d.int32()
	}
	if mask&setLogProbs != 0 {
		s.LogProbs = d.int32()
	}
	return s
}
