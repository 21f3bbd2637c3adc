package engine

import "context"

// Engine runs plans. It is not safe for concurrent use: one goroutine owns it.
type Engine interface {
	// Step runs a plan. emit is called after each pass, on the calling goroutine.
	// After an error the engine's slots hold what they held before the failed
	// pass (ErrPass) or nothing can be said of them (any other error).
	Step(ctx context.Context, p Plan, emit func(Output)) error
	// Limits says what fits; it never changes.
	Limits() Limits
	Close() error
}
