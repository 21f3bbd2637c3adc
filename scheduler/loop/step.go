package loop

import (
	"context"
	"errors"
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// How long a loop lets an engine be that has failed: first, and at most.
const (
	failureBackoff = 5 * time.Millisecond
	maxBackoff     = time.Second
)

func (l *Loop) plan() (engine.Plan, []scheduler.Event) {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	return l.sched.Next(l.now())
}

// apply takes in what a pass gave; what it saved is pinned before others may want the room.
func (l *Loop) apply(out engine.Output) ([]scheduler.Event, error) {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	events, err := l.sched.Apply(out, l.now())
	l.keep(l.sched.Saved())
	return events, err
}

// step runs a plan; what each pass gives is delivered while the next one waits.
func (l *Loop) step(plan engine.Plan) {
	var bad error
	saves := false
	for i := range plan.Edits {
		if e := &plan.Edits[i]; e.Kind == engine.EditSave {
			saves = true
			l.clear(e.Pages...)
		}
	}
	watch := l.opt.Observer.step(&plan)
	err := l.eng.Step(context.Background(), plan, func(out engine.Output) {
		watch.pass(&out, l.sched)
		events, err := l.apply(out)
		if err != nil && bad == nil {
			bad = err
		}
		l.deliver(events)
		if saves {
			saves = false
			l.account.tell(l)
		}
	})
	if err == nil {
		err = bad
	}
	watch.end(l.sched.Moved(), err)
	l.share()
	if err == nil {
		l.failures = 0
		return
	}
	l.failures++
	l.failed++
	l.opt.Log.Error("a step failed; its requests are computed again", "step", plan.Step, "failures", l.failures, "error", err)
	l.deliver(l.fail(err))
	l.account.tell(l)
	if r, ok := l.eng.(engine.Restarter); ok && errors.Is(err, engine.ErrLost) {
		l.recover(r, err)
		return
	}
	l.pause(min(failureBackoff<<min(l.failures, 10), maxBackoff))
}

func (l *Loop) fail(err error) []scheduler.Event {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	return l.sched.Fail(err, l.now())
}

// pause waits, but takes cancellations at once, and ends when the loop is closed.
func (l *Loop) pause(d time.Duration) {
	l.publish()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-l.wake:
			l.receive()
			l.publish()
			if l.isClosing() {
				return
			}
		}
	}
}
