package scheduler

import "llamero/engine"

// Costs predicts what passes take on this machine, in nanoseconds. It is
// calibrated at start-up by passes of idle rows and then kept up by what real
// passes take. The model is small on purpose:
//
//	decode pass of w rows:                   scale · (width[w] + perDepth·Σd)
//	prompt chunk of c tokens at depth d:     scale · (chunkBase + chunkToken·c + chunkDepth·c·(d+c/2))
//	                                         with untiled · chunkDepth where c < tileRows
//
// width is a table, not a line: kernels work in fours, so 8 rows may cost less
// than 7. d is what a row's attention looks at: its own tokens, and the mask of
// the longest row of its pass at maskShare of the price.
type Costs struct {
	width      []float64 // [w], w from 1; measured or interpolated
	measured   []bool
	perDepth   float64
	chunkBase  float64
	chunkToken float64
	chunkDepth float64 // less than perDepth: a chunk's tokens attend to the same cells together
	slotToken  float64 // reading a token's KV from a slot, or writing it there
	pageToken  float64 // copying it into a page, or from one
	draftStep  float64 // a token of the draft model for one row; 0: there is none
	draftToken float64 // its reading of one

	decodeScale, chunkScale float64
}

const (
	learnScale = 0.05 // how fast a change of the machine's speed is believed
	learnShape = 0.02 // how fast a single coefficient is
	outlier    = 2.0  // a measurement further off than this factor counts as that far
)

// misjudged is how much longer something took than predicted, as a part of that.
func misjudged(nanos int64, predicted float64) float64 {
	return min(max(float64(nanos)/predicted, 1/outlier), outlier) - 1
}

// shape is what a pass costs by.
type shape struct {
	kind   engine.PassKind
	rows   int
	tokens int
	depth  int // of a decode pass the sum over its rows, see attended; of a chunk, where it begins

	drafting int // rows that the draft model guesses for
	drafted  int // tokens, for each
	unread   int // tokens that it reads before
}

// maskShare is what reading a cell's mask costs, in parts of attending to it.
// Measured on a CPU in the split layout: a row of a pass with one slot of 1,024
// tokens pays 0.85 ms for the mask, and 4.3 ms when those tokens are its own.
const maskShare = 0.2

// attended is what the rows of a decode pass attend to together: sum is of their
// own depths, longest is what each row's mask spans.
func attended(rows, sum, longest int) int {
	return sum + int(maskShare*float64(rows*longest-sum))
}

// NewCosts returns a model with the proportions of a small model on two cores;
// calibration replaces them.
func NewCosts(l engine.Limits) *Costs {
	n := l.Slots + l.Scratch
	if l.Layout == engine.Unified {
		n = l.Slots + maxRound
	}
	if l.Trims {
		n = max(n, mostGuess+1)
	}
	n = min(n, l.PassTokens, l.PassOutputs)
	c := &Costs{
		width:       make([]float64, n+1),
		measured:    make([]bool, n+1),
		perDepth:    1e3,
		chunkBase:   2e6,
		chunkToken:  1e6,
		chunkDepth:  1e3,
		slotToken:   float64(l.TokenBytes) / 8, // 8 GB/s
		pageToken:   float64(l.TokenBytes) / 4,
		decodeScale: 1,
		chunkScale:  1,
	}
	for w := range c.width {
		c.width[w] = 4e6 + 1e6*float64(w)
	}
	if l.Draft > 0 {
		c.draftStep, c.draftToken = draftShare*c.width[1], draftShare*c.chunkToken
	}
	return c
}

// decode predicts a decode pass whose rows attend to so many tokens together.
func (c *Costs) decode(rows, depth int) float64 {
	last := len(c.width) - 1
	width := c.width[min(rows, last)]
	if rows > last { // as dear as the widest, row by row
		width *= float64(rows) / float64(last)
	}
	return c.decodeScale * (width + c.perDepth*float64(depth))
}

// tileRows is how many rows of one sequence make llama.cpp's CPU attention work
// in tiles, which read each cell once for many rows; a chunk of fewer goes row by
// row, at untiled times the price. Measured on two cores at a depth of 768: a chunk
// of 63 tokens takes 268 ms, one of 64 takes 164 ms; engine/llama's
// TestShowWidths prints it.
const (
	tileRows = 64
	untiled  = 2.0
)

// attention is what a chunk's token pays for each cell before it.
func (c *Costs) attention(tokens int) float64 {
	if tokens < tileRows {
		return untiled * c.chunkDepth
	}
	return c.chunkDepth
}

// chunk predicts a prompt chunk that begins at a depth.
func (c *Costs) chunk(tokens, depth int) float64 {
	t := float64(tokens)
	return c.chunkScale * (c.chunkBase + c.chunkToken*t + c.attention(tokens)*t*(float64(depth)+t/2))
}

// chunkFor is the longest chunk predicted to take at most nanos, which may be 0.
func (c *Costs) chunkFor(nanos float64, depth, most int) int {
	// Cost grows with length on either side of tileRows, but may drop there.
	longest := func(lo, hi int) int {
		for lo < hi {
			mid := (lo + hi + 1) / 2
			if c.chunk(mid, depth) <= nanos {
				lo = mid
			} else {
				hi = mid - 1
			}
		}
		return lo
	}
	if most >= tileRows && c.chunk(tileRows, depth) <= nanos {
		return longest(tileRows, most)
	}
	return longest(0, min(most, tileRows-1))
}

const (
	// maxRound is how many idle rows a pass may be rounded up by.
	maxRound = 3
	// roundGain is the least gain that makes idle rows worth having: predictions are noisy.
	roundGain = 0.97
)

// round returns the width, from rows up to most, at which a pass costs least.
func (c *Costs) round(rows, depth, most int) int {
	best, cost := rows, c.decode(rows, depth)*roundGain
	for w := rows + 1; w <= min(rows+maxRound, most, len(c.width)-1); w++ {
		if x := c.decode(w, depth); x < cost {
			best, cost = w, x
		}
	}
	return best
}

// draftShare is what a draft model costs of the model before its own price is known.
const draftShare = 0.3

// drafts reports whether there is a draft model.
func (c *Costs) drafts() bool { return c.draftStep > 0 }

// draft predicts the drafting of so many tokens for each of so many rows: the draft
// model's kernels are the model's, so its price goes with the width as the model's does.
func (c *Costs) draft(rows, tokens int) float64 {
	return c.draftStep * float64(tokens) * c.width[min(rows, len(c.width)-1)] / c.width[1]
}

// draftRead predicts the draft model's reading of so many tokens.
func (c *Costs) draftRead(tokens int) float64 { return c.draftToken * float64(tokens) }

// predictDraft predicts what the draft model takes of a pass.
func (c *Costs) predictDraft(s shape) float64 {
	if s.drafting == 0 {
		return 0
	}
	return c.draft(s.drafting, s.drafted) + c.draftRead(s.unread)
}

// observeDraft learns from what it took.
func (c *Costs) observeDraft(s shape, nanos int64) {
	p := c.predictDraft(s)
	if nanos <= 0 || p <= 0 {
		return
	}
	err := misjudged(nanos, p)
	reading := c.draftRead(s.unread) / p
	c.draftStep *= 1 + learnScale*err*(1-reading)
	c.draftToken *= 1 + learnScale*err*reading
}

// predict is what a pass takes without what the draft model does.
func (c *Costs) predict(s shape) float64 {
	if s.kind == engine.PassDecode {
		return c.decode(s.rows, s.depth)
	}
	return c.chunk(s.tokens, s.depth)
}

// observe learns from a pass that has run: first the machine's speed, more slowly
// the coefficients, each by its part in the prediction.
func (c *Costs) observe(s shape, nanos int64) {
	p := c.predict(s)
	if nanos <= 0 || p <= 0 {
		return
	}
	err := misjudged(nanos, p)
	if s.kind == engine.PassDecode {
		if c.measured[1] && s.rows < len(c.width) && !c.measured[s.rows] {
			c.meet(s, nanos)
			return
		}
		deep := c.decodeScale * c.perDepth * float64(s.depth) / p
		c.decodeScale *= 1 + learnScale*err
		if s.rows < len(c.width) {
			c.width[s.rows] *= 1 + learnShape*err*(1-deep)
		}
		c.perDepth *= 1 + learnShape*err*deep
		return
	}
	t := float64(s.tokens)
	deep := c.chunkScale * c.attention(s.tokens) * t * (float64(s.depth) + t/2) / p
	c.chunkScale *= 1 + learnScale*err
	c.chunkToken *= 1 + learnShape*err*(1-deep)
	c.chunkDepth *= 1 + learnShape*err*deep
}

// meet takes what a width took that had not been measured: what was thought of it says
// nothing. It may be out of line once; it is learnt like the others from then on.
func (c *Costs) meet(s shape, nanos int64) {
	took := float64(nanos)/c.decodeScale - c.perDepth*float64(s.depth)
	c.width[s.rows] = max(took, c.width[1]/2)
	c.measured[s.rows] = true
	c.interpolate()
}

// Widths returns the table of decode passes by width at depth 0, in nanoseconds;
// index 0 is unused. For metrics and for the log.
func (c *Costs) Widths() []float64 {
	out := make([]float64, len(c.width))
	for w := range out {
		out[w] = c.decodeScale * c.width[w]
	}
	return out
}

// ChunkToken is what a token of a prompt costs at depth 0, in nanoseconds.
func (c *Costs) ChunkToken() float64 { return c.chunkScale * c.chunkToken }
