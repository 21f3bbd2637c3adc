package loop

import (
	"context"
	"errors"
	"time"

	"llamero/engine"
)

const (
	// recoverLimit is how long requests wait for an engine that was lost: longer than
	// a large model takes to load, and not for ever.
	recoverLimit = 2 * time.Minute
	// expirePeriod is how often those that have not begun are looked at meanwhile.
	expirePeriod = 100 * time.Millisecond
)

// recover waits until an engine that was lost runs again. What is submitted meanwhile
// queues, cancellations are taken at once, deadlines hold, and what has waited for too
// long ends with the reason.
func (l *Loop) recover(r engine.Restarter, reason error) {
	l.publish()
	ctx, cancel := context.WithCancel(context.Background())
	back := make(chan error, 1)
	go func() { back <- r.Recover(ctx) }()
	defer func() {
		cancel()
		<-back // Recover is not for two goroutines
	}()
	tick := time.NewTicker(expirePeriod)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case err := <-back:
			back <- err
			if err != nil && !errors.Is(err, context.Canceled) {
				l.opt.Log.Error("the engine does not come back", "error", err)
				l.deliver(l.sched.Abandon(reason, l.now()))
				l.pause(maxBackoff)
			}
			return
		case <-l.wake:
			l.receive()
		case <-tick.C:
			l.deliver(l.sched.Expire(l.now()))
			if time.Since(start) > recoverLimit {
				l.deliver(l.sched.Abandon(reason, l.now()))
			}
		}
		l.publish()
		if l.isClosing() {
			return
		}
	}
}
