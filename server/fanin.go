package server

import (
	"context"
	"errors"
	"io"
	"sync"

	"llamero/scheduler"
)

// fanIn makes one Stream of several, for a text completion with several prompts.
// Stream i's choices come out as i×n to i×n+n-1.
type fanIn struct {
	streams []Stream
	n       int // choices a stream

	mu     sync.Mutex
	events []scheduler.Event
	open   int   // streams that have not ended
	err    error // of a stream that broke its contract
	wake   chan struct{}
}

func newFanIn(streams []Stream, n int) *fanIn {
	f := &fanIn{streams: streams, n: n, open: len(streams), wake: make(chan struct{}, 1)}
	for i := range streams {
		go f.pump(i)
	}
	return f
}

// pump ends when its stream does, and every stream does once it is cancelled.
func (f *fanIn) pump(i int) {
	for {
		events, err := f.streams[i].Next(context.Background())
		for k := range events {
			events[k].Choice += i * f.n
		}
		f.mu.Lock()
		f.events = append(f.events, events...)
		if err != nil {
			f.open--
			if !errors.Is(err, io.EOF) && f.err == nil {
				f.err = err
			}
		}
		f.mu.Unlock()
		select {
		case f.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (f *fanIn) Next(ctx context.Context) ([]scheduler.Event, error) {
	for {
		f.mu.Lock()
		events, open, err := f.events, f.open, f.err
		f.events = nil
		f.mu.Unlock()
		switch {
		case len(events) > 0:
			return events, nil
		case err != nil:
			return nil, err
		case open == 0:
			return nil, io.EOF
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fanIn) Cancel() {
	for _, s := range f.streams {
		s.Cancel()
	}
}

func (f *fanIn) CancelChoice(choice int) { f.streams[choice/f.n].CancelChoice(choice % f.n) }
