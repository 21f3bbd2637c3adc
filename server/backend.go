package server

import (
	"context"
	"time"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
)

// Backend runs requests. FromLoop makes one of a loop.
type Backend interface {
	// Submit is loop.Loop's: it returns at once, with a stream, a *loop.BusyError, a
	// *scheduler.TooLongError or loop.ErrDraining.
	Submit(scheduler.Request, time.Duration) (Stream, error)
	// Hold is loop.Loop's: a place while a prompt is prepared.
	Hold() (release func(), err error)
	Capacity() int
	Limits() engine.Limits
	Stats() loop.Stats
	// Time is when an event happened.
	Time(scheduler.Tick) time.Time
}

// Stream is a running request's mailbox, as loop.Stream.
type Stream interface {
	Next(context.Context) ([]scheduler.Event, error)
	Cancel()
	CancelChoice(choice int)
}

// Loop is what FromLoop makes a Backend of: *loop.Loop, or *loop.Group.
type Loop interface {
	Submit(scheduler.Request, time.Duration) (*loop.Stream, error)
	Hold() (release func(), err error)
	Capacity() int
	Limits() engine.Limits
	Stats() loop.Stats
	Time(scheduler.Tick) time.Time
}

// FromLoop returns l as a Backend.
func FromLoop(l Loop) Backend { return loopBackend{l} }

type loopBackend struct{ Loop }

func (b loopBackend) Submit(r scheduler.Request, wait time.Duration) (Stream, error) {
	s, err := b.Loop.Submit(r, wait)
	if err != nil {
		return nil, err // not s: a nil *loop.Stream is no nil Stream
	}
	return s, nil
}
