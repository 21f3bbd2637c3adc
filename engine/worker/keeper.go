package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// child is what a keeper keeps running.
type child interface {
	comparable
	lifeline() *link
	worked() bool // it has done something: what ended it is not how it starts
}

// keeper keeps one child running: when it ends the next is started, at once if it had
// worked, else after a pause that doubles.
type keeper[C child] struct {
	name  string
	log   *slog.Logger
	start func(context.Context) (C, error)

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when the last child has ended

	mu      sync.Mutex
	current C // the zero value while there is none
	why     string
	changed chan struct{} // closed and replaced when current changes
}

const (
	leastPause = 50 * time.Millisecond
	mostPause  = 5 * time.Second
)

// keep starts the first child, whose failure is the caller's, and keeps it running.
func keep[C child](name string, log *slog.Logger, start func(context.Context) (C, error)) (*keeper[C], error) {
	k := &keeper[C]{name: name, log: log, start: start, done: make(chan struct{}), changed: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	first, err := start(k.ctx)
	if err != nil {
		k.cancel()
		return nil, err
	}
	k.set(first, "")
	go k.run(first)
	return k, nil
}

func (k *keeper[C]) set(c C, why string) {
	k.mu.Lock()
	k.current, k.why = c, why
	close(k.changed)
	k.changed = make(chan struct{})
	k.mu.Unlock()
}

// run ends with the keeper's context.
func (k *keeper[C]) run(c C) {
	defer close(k.done)
	var none C
	var pause time.Duration
	for {
		l := c.lifeline()
		select {
		case <-l.gone:
		case <-k.ctx.Done():
			l.quit()
			return
		}
		k.set(none, l.reason())
		k.log.Error("a child process is lost; the next one is started", "process", k.name, "pid", l.pid(), "reason", l.reason())
		if c.worked() {
			pause = 0
		}
		var ok bool
		if c, ok = k.next(&pause); !ok {
			return
		}
		k.set(c, "")
	}
}

// next starts children until one runs.
func (k *keeper[C]) next(pause *time.Duration) (c C, ok bool) {
	for {
		if *pause > 0 {
			timer := time.NewTimer(*pause)
			select {
			case <-timer.C:
			case <-k.ctx.Done():
				timer.Stop()
				return c, false
			}
		}
		*pause = min(max(leastPause, 2**pause), mostPause)
		start := time.Now()
		c, err := k.start(k.ctx)
		if err == nil {
			k.log.Info("a child process runs again", "process", k.name, "pid", c.lifeline().pid(), "took", time.Since(start).Round(time.Millisecond).String())
			return c, true
		}
		if k.ctx.Err() != nil {
			return c, false
		}
		k.log.Error("a child process does not start", "process", k.name, "again_in", pause.String(), "error", err)
	}
}

// get returns the child that runs, if one does; else why there is none, and what is
// closed when that changes.
func (k *keeper[C]) get() (c C, why string, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, k.why, k.changed
}

// wait returns the child that runs, once one does.
func (k *keeper[C]) wait(ctx context.Context) (C, error) {
	var none C
	for {
		c, _, changed := k.get()
		if c != none {
			select {
			case <-c.lifeline().gone: // the keeper is about to learn it
			default:
				return c, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return none, ctx.Err()
		case <-k.ctx.Done():
			return none, errClosed
		}
	}
}

// close ends the child and waits for its end.
func (k *keeper[C]) close() {
	k.cancel()
	<-k.done
}
