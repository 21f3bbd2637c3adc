package engine

import "llamero/tokenizer"

// Token is the vocabulary's token; the alias saves every reader an import.
type Token = tokenizer.Token

// Plan is one step of an engine: edits in order, then the passes in order. It is a
// plain value and survives a pipe.
type Plan struct {
	Step   uint64
	Edits  []Edit
	Passes []Pass // decode passes first, so that their tokens leave before a prompt chunk runs
	// Expected is what the step is predicted to take, in nanoseconds; 0 is unknown. An
	// engine that can hang is given up when it takes far longer.
	Expected int64
}

// EditKind says what an Edit does to a slot.
type EditKind uint8

const (
	// EditOpen prepares an empty slot for a request: its sampling settings and how
	// many of its tokens are prompt (penalties count what comes after).
	EditOpen EditKind = iota + 1
	// EditTrim cuts a slot to its first Len tokens.
	EditTrim
	// EditMove carries a slot's tokens, KV and settings to the empty slot To and
	// leaves Slot empty.
	EditMove
	// EditFork gives slot To, which has been opened and is empty, the first Len tokens
	// of Slot: in the split layout as a copy, in the unified one in the same cells.
	EditFork
	// EditDrop empties a slot and forgets its settings. Dropping an empty slot is allowed.
	EditDrop
	// EditRestore fills an opened, empty slot from host pages, Tokens being what they hold.
	EditRestore
	// EditSave copies the KV of a slot's tokens from page First on out to host pages;
	// a page of -1 is left out. What a slot's token t is worth depends on all tokens
	// before it, so a page holds what its place in the slot gave it.
	EditSave
)

// Edit changes one slot before the passes run.
type Edit struct {
	Kind     EditKind
	Slot     int32
	To       int32    // EditMove, EditFork: the destination slot
	Len      int32    // EditTrim, EditFork: how many tokens stay; EditOpen: the prompt's length
	Sampling Sampling // EditOpen
	Tokens   []Token  // EditRestore: the tokens whose KV the pages hold
	First    int32    // EditSave: the first page within the slot
	Pages    []int32  // EditRestore, EditSave: host pages in order
}

// CheckPages says whether a restore or a save names host pages of which there are so
// many, each once; a save may leave pages out.
func (e *Edit) CheckPages(pages int) error {
	var least int32
	switch e.Kind {
	case EditRestore:
	case EditSave:
		least = -1
	default:
		return nil
	}
	seen := make(map[int32]bool, len(e.Pages))
	for _, p := range e.Pages {
		if p < least || int(p) >= pages || p >= 0 && seen[p] {
			return planErr("edit %d of slot %d names host page %d; there are %d, each for one page of a slot", e.Kind, e.Slot, p, pages)
		}
		seen[p] = true
	}
	return nil
}

// PassKind tells a pass that yields tokens for running requests from one that reads prompts.
type PassKind uint8

const (
	PassDecode PassKind = iota + 1
	PassPrefill
)

// Pass is one call of the model. In the split layout its rows name consecutive
// slots in increasing order and are equally wide; in the unified layout
// any mix will do. See Limits.Check.
type Pass struct {
	Kind PassKind
	Rows []Row
}

// Row is a slot's part of a pass.
type Row struct {
	Slot   int32
	Pos    int32   // the position of Tokens[0]; must be the slot's length
	Tokens []Token // what to compute
	// Sample draws the token that follows the last one of Tokens.
	Sample bool
	// Score asks for the log-probability, given what is before it, of each token
	// after the first of Tokens, and of Next, unless that is tokenizer.None.
	Score bool
	Next  Token
	// Idle rows hold a place: Tokens are computed behind whatever the slot holds and
	// trimmed again; nothing is sampled. They round a pass up to a cheaper width,
	// plug a hole, and serve calibration. In a decode pass they have outputs, which
	// nobody reads: those are computed in a pass's width too.
	Idle bool
	// Guess are tokens that may follow, and are computed behind Tokens in the same
	// pass. Those that equal the slot's own draws, up to the first that does not, stay
	// in the slot: the draws are the same as without. Only rows that sample have one.
	Guess []Token
	// Draft asks for a guess of so many tokens by the engine's draft model, which are
	// not known when the plan is made; the row is that much wider. A row has either a
	// Guess or a Draft. A draft model that has not read the slot's text reads up to a
	// pass's worth of it, and guesses once it has read all; until then the row holds its
	// place with tokens that nobody guessed.
	Draft int32
}

// Width is how many tokens the row computes.
func (r *Row) Width() int { return len(r.Tokens) + r.guesses() }

// guesses is how many tokens the row verifies, wherever they come from.
func (r *Row) guesses() int { return len(r.Guess) + int(r.Draft) }

// Outputs is how many of the row's tokens have an output, in a pass of a kind: where it
// draws one and one a guess, where it scores all, and where it is idle as many as the
// rows beside it.
func (r *Row) Outputs(kind PassKind) int {
	switch {
	case r.Score:
		return r.Width()
	case r.Sample:
		return 1 + r.guesses()
	case r.Idle && kind == PassDecode:
		return r.Width()
	}
	return 0
}

// Output is what one pass gave.
type Output struct {
	Step  uint64
	Pass  int // index into Plan.Passes; -1: a plan without passes is done
	Rows  []RowOutput
	Nanos int64 // what the pass took, sampling included
	// EditNanos is what the plan's edits took; in the first output of a step only.
	EditNanos int64
	// DraftNanos is the part of Nanos that the draft model took.
	DraftNanos int64
}

// RowOutput is a row's part of an Output; rows that neither sample nor score have
// an empty one, so that indices agree with Pass.Rows.
type RowOutput struct {
	Slot int32
	// Sampled are the tokens drawn, in order. All but the last are the part of the
	// row's guess that was right, and in the slot's KV.
	Sampled []Sampled
	Scores  []Sampled // Row.Score: for Tokens[1:] and Next
	Drafted []Token   // Row.Draft: what the draft model guessed; none until it has read all
	// Read is how many of the slot's tokens the draft model has read; for rows that sample.
	Read int32
}

// Sampled is a token with what was asked for about its probability.
type Sampled struct {
	Token   Token
	LogProb float32   // natural log, of the raw distribution; valid if Sampling.LogProbs > 0
	Top     []TopProb // the most probable tokens, most probable first
}

// TopProb is one alternative.
type TopProb struct {
	Token   Token
	LogProb float32
}
