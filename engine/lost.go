package engine

import (
	"context"
	"errors"
)

// ErrLost marks the error of a step whose engine has died or hung: its slots are
// gone, host pages that were whole are not.
var ErrLost = errors.New("engine: lost")

// LostError is ErrLost with what is known of it. errors.Is(err, ErrLost) holds.
type LostError struct {
	Reason string // "signal: killed", "no sign of life for 4s"
	// Begun: the engine had been given the plan, so that something in it may be what
	// ended it.
	Begun bool
	// Edited: the plan's edits had been done.
	Edited bool
}

func (e *LostError) Error() string        { return "the engine was lost: " + e.Reason }
func (e *LostError) Is(target error) bool { return target == ErrLost }

// Restarter is an engine that can be lost and comes back. After a step that was
// lost, Step fails with ErrLost until Recover has returned nil; then all slots are
// empty and closed, Limits are as before and host pages hold what they held.
type Restarter interface {
	Engine
	// Recover waits until the engine runs again, or until ctx ends, and returns ctx's
	// error then. It is for the goroutine that calls Step.
	Recover(ctx context.Context) error
	// Ready reports whether the engine runs. It is safe for concurrent use.
	Ready() bool
}
