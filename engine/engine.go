package engine

import "context"

// Engine runs plans. It is not safe for concurrent use: one goroutine owns it.
type Engine interface {
	// Step runs a plan. emit is called after each pass, or once for a plan that has
	// none, on the calling goroutine; the output is emit's to keep.
	// After ErrPlan and ErrNoRoom the slots are as before the refused edit or pass;
	// after any other error nothing is known of them, and they must be dropped.
	Step(ctx context.Context, p Plan, emit func(Output)) error
	// Limits says what fits; it never changes.
	Limits() Limits
	Close() error
}
