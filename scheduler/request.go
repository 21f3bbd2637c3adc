package scheduler

import (
	"errors"
	"fmt"

	"llamero/cache"
	"llamero/engine"
)

// Tick is a time in nanoseconds from an origin of the caller's choice. The
// scheduler has no clock: time is an argument.
type Tick int64

// ID names a request for as long as it lives.
type ID uint64

// Request is what a client asked for, after validation and tokenisation.
type Request struct {
	ID       ID
	Tenant   string // whose fair share it takes from (an API key's name)
	Priority int    // lower runs first, as in vLLM; 0 is the default
	Prompt   []engine.Token
	Sampling engine.Sampling // its Choice is the first; the others count up from it
	Choices  int             // n: independent answers from one prefill; 0 means 1
	// MaxTokens bounds each answer; 0 leaves the slot's end as the limit. With
	// PromptScores it may be -1: score the prompt and generate nothing.
	MaxTokens int
	// Stop are the tokens that end an answer (the vocabulary's EOG, unless ignored).
	Stop []engine.Token
	// Deadline is when the request gives up waiting for its first slot; 0 is never.
	Deadline Tick
	// PromptScores asks for the log-probabilities of the prompt's tokens.
	PromptScores bool
	// Paged requests begin with pages that are known below Root and publish theirs
	// there. Root tells apart who may share with whom.
	Paged bool
	Root  cache.Address
}

// Finish says why an answer ended.
type Finish uint8

const (
	FinishNone    Finish = iota
	FinishStop           // a stop token
	FinishLength         // MaxTokens or the slot's end
	FinishCancel         // the client went, or a stop string was found
	FinishExpired        // waited past its deadline
	FinishError          // see Event.Err
)

func (f Finish) String() string {
	switch f {
	case FinishStop:
		return "stop"
	case FinishLength:
		return "length"
	case FinishCancel:
		return "cancelled"
	case FinishExpired:
		return "expired"
	case FinishError:
		return "error"
	}
	return ""
}

// EventKind says what an Event reports.
type EventKind uint8

const (
	EventAdmitted EventKind = iota + 1 // a choice got a slot for the first time
	EventTokens                        // tokens were drawn (or prompt scores are there)
	EventDone                          // a choice ended; the last event of that choice
	EventLookup                        // pages of the prompt were looked for elsewhere
)

// Lookup is a search for pages of a prompt that are not in host memory. Whoever
// searches makes its event.
type Lookup struct {
	Began        Tick
	Asked, Found int // tokens
}

// Event is something that happened to one choice of a request.
type Event struct {
	ID     ID
	Choice int // 0 … Choices-1
	Kind   EventKind
	At     Tick
	Tokens []engine.Sampled // EventTokens; a stop token that ended the answer is not among them
	Scores []engine.Sampled // EventTokens: prompt scores, for Prompt[1:] in order, in parts
	Cached int              // EventAdmitted: prompt tokens that need no computing
	// EventTokens: how many tokens were guessed to get these, and how many of them right.
	Guessed, Accepted int
	Finish            Finish  // EventDone
	Err               error   // EventDone with FinishError
	Lookup            *Lookup // EventLookup
}

var (
	// ErrQueueFull: the waiting room is full; try again later.
	ErrQueueFull = errors.New("the queue is full")
	// ErrTooLong: no slot can ever hold the request.
	ErrTooLong = errors.New("the prompt is too long")
)

// TooLongError is ErrTooLong with its numbers.
type TooLongError struct {
	Tokens, Limit int // the prompt's tokens, and what a slot holds
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens; %d fit beside at least one generated token", e.Tokens, e.Limit)
}

func (e *TooLongError) Is(target error) bool { return target == ErrTooLong }
