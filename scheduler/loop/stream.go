package loop

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"llamero/scheduler"
)

// Stream is a request's mailbox. The loop puts events in and never waits; a slow
// reader finds the tokens of many steps in one event. One goroutine reads.
type Stream struct {
	id   scheduler.ID
	loop *Loop
	wake chan struct{} // capacity 1: there may be something to read

	unread atomic.Int64 // tokens in events

	// ended, unless nil, is told of each answer's end before its reader is. It runs on
	// the loop's goroutine.
	ended func(last bool)

	// The loop's goroutine's own, for its Observer.
	choices int
	prompt  int              // tokens; 0 once they are counted
	latest  []scheduler.Tick // by choice: when its latest tokens came; 0: none have

	mu     sync.Mutex
	events []scheduler.Event
	taken  []scheduler.Event // what Next returned, whose memory comes next
	left   int               // choices whose EventDone has not been put in yet
}

func newStream(l *Loop, id scheduler.ID, choices int) *Stream {
	return &Stream{id: id, loop: l, wake: make(chan struct{}, 1), left: choices, choices: choices}
}

// Next waits for events and returns all that have come since the last call, in
// order; neighbouring EventTokens of one choice are merged. They are valid until the
// next call. After the last choice's EventDone it returns nil, io.EOF. The end of ctx
// returns its error; the stream can be read on.
func (s *Stream) Next(ctx context.Context) ([]scheduler.Event, error) {
	for {
		s.mu.Lock()
		events := s.events
		s.events, s.taken = s.taken[:0], events
		s.unread.Store(0)
		left := s.left
		s.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		if left == 0 {
			return nil, io.EOF
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// put adds an event; it does not wait.
func (s *Stream) put(e scheduler.Event) {
	if e.Kind == scheduler.EventDone && s.ended != nil {
		s.ended(s.left == 1) // nobody else counts it down
	}
	s.mu.Lock()
	s.unread.Add(int64(len(e.Tokens)))
	merged := false
	if e.Kind == scheduler.EventTokens {
		for i := len(s.events) - 1; i >= 0; i-- {
			if last := &s.events[i]; last.Choice == e.Choice {
				if last.Kind == scheduler.EventTokens {
					last.Tokens = append(last.Tokens, e.Tokens...)
					last.Scores = append(last.Scores, e.Scores...)
					last.Guessed += e.Guessed
					last.Accepted += e.Accepted
					merged = true
				}
				break
			}
		}
	}
	if !merged {
		s.events = append(s.events, e)
	}
	if e.Kind == scheduler.EventDone {
		s.left--
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Cancel ends what is left of the request; its slot is free in the next step. It
// may be called from any goroutine, more than once, and after the end. Next then
// yields an EventDone with FinishCancel for each choice that had not ended.
func (s *Stream) Cancel() { s.loop.cancel(cancellation{s.id, allChoices}) }

// CancelChoice ends one choice (its stop string was found).
func (s *Stream) CancelChoice(choice int) { s.loop.cancel(cancellation{s.id, choice}) }
