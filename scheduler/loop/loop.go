package loop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"llamero/cache"
	"llamero/engine"
	"llamero/scheduler"
)

// Loop owns a scheduler and an engine. Its methods are safe for concurrent use.
type Loop struct {
	common
	eng    engine.Engine
	limits engine.Limits
	opt    Options

	ids    atomic.Uint64
	stats  atomic.Pointer[Stats]
	submit chan *submission // as large as there are places: a counted one always has room

	wake chan struct{} // capacity 1: something to look at

	mu       sync.Mutex
	cancels  []cancellation
	arrivals []arrival // from the remote tier
	draining bool
	closing  bool

	stopped chan struct{} // closed when the goroutine has ended

	asking      atomic.Int64    // what asking the remote tier takes on average, ns
	fetches     sync.WaitGroup  // goroutines that ask the remote tier
	fetchCtx    context.Context // ends with the loop
	stopFetches context.CancelFunc

	// The goroutine's own.
	sched    *scheduler.Scheduler
	streams  map[scheduler.ID]*Stream
	requests int           // taken, ever
	failures int           // steps that failed in a row
	failed   int           // steps that failed, ever
	saved    []cache.Entry // pages that were written and are to be shared, pinned for that
	costs    *Costs        // as of the latest look at them
	looked   time.Time
}

// common is what the loops of a served model share.
type common struct {
	origin  time.Time // of ticks
	places  *places
	account *account
}

func newCommon(opt *Options, slots int) common {
	return common{origin: time.Now(), places: newPlaces(slots, opt.Queue), account: &account{host: opt.Pages.Host}}
}

type submission struct {
	req    scheduler.Request
	stream *Stream
}

type cancellation struct {
	id     scheduler.ID
	choice int
}

const allChoices = -1 // of a cancellation

// New calibrates the engine and starts the loop, which owns the engine from then
// on and closes it. After an error the engine is still the caller's.
func New(eng engine.Engine, opt Options) (*Loop, error) {
	limits := eng.Limits()
	if err := opt.complete(limits); err != nil {
		return nil, err
	}
	return newLoop(eng, opt, newCommon(&opt, limits.Slots))
}

// newLoop is New for options that are complete.
func newLoop(eng engine.Engine, opt Options, c common) (*Loop, error) {
	l := &Loop{
		common:  c,
		eng:     eng,
		limits:  eng.Limits(),
		opt:     opt,
		submit:  make(chan *submission, c.places.capacity),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		streams: make(map[scheduler.ID]*Stream),
	}
	l.fetchCtx, l.stopFetches = context.WithCancel(context.Background())
	_, outlived := eng.(engine.Restarter)
	l.sched = scheduler.New(scheduler.Config{
		Limits: l.limits, TargetITL: int64(opt.TargetITL), Guess: opt.Guess, DraftOnly: opt.DraftOnly, Queue: int(c.places.capacity),
		Pages: c.account.join(l), Insure: outlived, KeepSaved: opt.Pages.Remote != nil || opt.Pages.Journal != nil,
	})
	if err := l.calibrate(); err != nil {
		return nil, err
	}
	l.publish()
	go l.run()
	return l, nil
}

// patience is how many times as long as it should a calibration may take for what is
// needed most: an engine whose passes are long has little measured in the time else.
const patience = 6

// calibrate measures passes until the time is used up.
func (l *Loop) calibrate() error {
	c := l.sched.Calibrate()
	start := time.Now()
	passes := 0
	for {
		limit := l.opt.Calibrate
		if c.Needed() {
			limit *= patience
		}
		if time.Since(start)+time.Duration(c.Expected()) >= limit {
			break
		}
		p, ok := c.Next()
		if !ok {
			break
		}
		if err := l.eng.Step(context.Background(), p, c.Observe); err != nil {
			return fmt.Errorf("calibration: %w", err)
		}
		passes++
	}
	if passes == 0 {
		return nil
	}
	c.Close()
	widths := l.sched.Costs().Widths()
	l.opt.Log.Debug("calibrated", "passes", passes, "took", time.Since(start),
		"one row", time.Duration(widths[1]), "all rows", time.Duration(widths[len(widths)-1]),
		"prompt token", time.Duration(l.sched.Costs().ChunkToken()))
	return nil
}

func (c *common) now() scheduler.Tick { return scheduler.Tick(time.Since(c.origin)) }

// Hold keeps a place for a request whose prompt is still being prepared, so that
// one that finds the queue full learns it before any work is spent on it. release
// gives the place back, once; call it just before Submit, which takes its own. The
// error is a *BusyError.
func (c *common) Hold() (release func(), err error) {
	if err := c.places.take(1, 0); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { c.places.give(1) }), nil
}

// Submit hands a request in and returns its stream, without waiting for a running
// step. Request.ID and Request.Deadline are the loop's to set; wait bounds the
// time in the queue (0: Options.QueueWait). Errors: *BusyError,
// *scheduler.TooLongError, ErrDraining, or what is wrong with the request.
func (l *Loop) Submit(r scheduler.Request, wait time.Duration) (*Stream, error) {
	return l.take(r, wait, nil)
}

// take is Submit; ended is told of each answer's end, see Stream.
func (l *Loop) take(r scheduler.Request, wait time.Duration, ended func(last bool)) (*Stream, error) {
	if err := scheduler.Fits(r, l.limits); err != nil {
		return nil, err
	}
	r.ID = scheduler.ID(l.ids.Add(1))
	r.Choices = max(1, r.Choices)
	if l.opt.Pages.Host != nil {
		r.Paged, r.Root = true, l.opt.Pages.Root(r.Tenant)
	}
	if wait <= 0 {
		wait = l.opt.QueueWait
	}
	n := int64(r.Choices)
	if err := l.places.take(n, wait); err != nil {
		return nil, err
	}
	if wait > 0 {
		r.Deadline = l.now() + scheduler.Tick(wait)
	}
	s := newStream(l, r.ID, r.Choices)
	s.prompt, s.ended = len(r.Prompt), ended
	l.mu.Lock()
	if l.draining || l.closing {
		l.mu.Unlock()
		l.places.give(n)
		return nil, ErrDraining
	}
	l.submit <- &submission{r, s} // has room: places are counted
	l.mu.Unlock()
	l.poke()
	return s, nil
}

func (l *Loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Loop) cancel(c cancellation) {
	l.mu.Lock()
	l.cancels = append(l.cancels, c)
	l.mu.Unlock()
	l.poke()
}

// run is the loop's goroutine.
func (l *Loop) run() {
	defer close(l.stopped)
	for {
		l.receive()
		if l.finished() {
			return
		}
		plan, events := l.plan()
		l.deliver(events)
		if plan.Step == 0 {
			l.publish()
			<-l.wake
			continue
		}
		l.publish()
		l.step(plan)
		l.publish()
	}
}

// receive takes what has been submitted and cancelled.
func (l *Loop) receive() {
	for {
		select {
		case sub := <-l.submit:
			l.requests++
			if err := l.sched.Add(sub.req); err != nil {
				// Submit has checked all that Add checks; this would be a fault of ours.
				l.opt.Log.Error("a request was lost", "error", err)
				l.places.give(int64(sub.req.Choices))
				for i := range sub.req.Choices {
					sub.stream.put(scheduler.Event{ID: sub.req.ID, Choice: i, Kind: scheduler.EventDone,
						At: l.now(), Finish: scheduler.FinishError, Err: err})
				}
				continue
			}
			l.streams[sub.req.ID] = sub.stream
			l.fetch(sub.req.ID)
			continue
		default:
		}
		break
	}
	l.mu.Lock()
	cancels := l.cancels
	l.cancels = nil
	arrivals := l.arrivals
	l.arrivals = nil
	l.mu.Unlock()
	l.settle(arrivals)
	for _, c := range cancels {
		if c.choice == allChoices {
			l.deliver(l.sched.Cancel(c.id, l.now()))
		} else {
			l.deliver(l.sched.CancelChoice(c.id, c.choice, l.now()))
		}
	}
}

// deliver puts events into their mailboxes.
func (l *Loop) deliver(events []scheduler.Event) {
	for _, e := range events {
		s := l.streams[e.ID]
		if s == nil {
			continue
		}
		l.opt.Observer.event(s, &e)
		s.put(e)
		if e.Kind != scheduler.EventDone {
			continue
		}
		l.places.end()
		if s.done() {
			delete(l.streams, e.ID)
		}
	}
}

func (s *Stream) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == 0
}

func (l *Loop) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// finished reports whether the loop has been closed; then everything is ended.
func (l *Loop) finished() bool {
	if !l.isClosing() {
		return false
	}
	l.receive() // nothing comes after: Submit has seen closing
	for id := range l.streams {
		l.deliver(l.sched.Cancel(id, l.now()))
	}
	l.publish()
	return true
}

// Capacity is how many answers there is room for, slots and queue together: a request
// for more can never be taken.
func (c *common) Capacity() int { return int(c.places.capacity) }

// Limits are the engine's.
func (l *Loop) Limits() engine.Limits { return l.limits }

// Time is when an event happened, by the wall clock as it is now: since the origin of
// ticks the system may have set it.
func (c *common) Time(at scheduler.Tick) time.Time {
	return time.Now().Add(time.Duration(at - c.now()))
}

// drainPoll is how often Drain looks whether all requests have ended.
const drainPoll = 10 * time.Millisecond

// Drain stops taking requests and waits until those that are there have ended, or
// until ctx ends; it returns ctx's error then, and Close cuts off what is left.
func (l *Loop) Drain(ctx context.Context) error {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.poke()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if l.places.taken.Load() == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-l.stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close cancels what is left, stops the loop after the running step and closes
// the engine.
func (l *Loop) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.stopped
		return nil
	}
	l.closing = true
	l.mu.Unlock()
	l.poke()
	<-l.stopped
	l.stopFetches()
	l.fetches.Wait()
	return l.eng.Close()
}
