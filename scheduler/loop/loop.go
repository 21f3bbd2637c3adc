package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"llamero/engine"
	"llamero/scheduler"
)

// ErrDraining: the gateway is shutting down and takes no new requests.
var ErrDraining = errors.New("shutting down")

// BusyError says that a request was refused for load, and when to come back.
// errors.Is(err, scheduler.ErrQueueFull) holds.
type BusyError struct {
	RetryAfter time.Duration // 1 s to 8 s
}

func (e *BusyError) Error() string        { return "the server is busy" }
func (e *BusyError) Is(target error) bool { return target == scheduler.ErrQueueFull }

// Options of a Loop; zero values are defaults.
type Options struct {
	Guess     float64       // guess repeating text ahead: see scheduler.Config
	TargetITL time.Duration // time that a step may take while requests decode; 600 ms
	Queue     int           // requests that may wait; 64
	QueueWait time.Duration // how long a request waits at most for its slot; 0: no bound
	Calibrate time.Duration // time that New may spend on measuring; 1 s, negative: none
	Log       *slog.Logger  // nil: slog.Default
	Observer  Observer

	Pages Pages
}

const (
	defaultTargetITL = 600 * time.Millisecond
	defaultQueue     = 64
	defaultCalibrate = time.Second
	minRetryAfter    = time.Second
	maxRetryAfter    = 8 * time.Second
	failureBackoff   = 5 * time.Millisecond
	maxBackoff       = time.Second
	allChoices       = -1
)

// Loop owns a scheduler and an engine. Its methods are safe for concurrent use.
type Loop struct {
	eng    engine.Engine
	limits engine.Limits
	opt    Options
	origin time.Time

	places   atomic.Int64 // answers that have not ended, those in submit included
	capacity int64        // slots + queue
	interval atomic.Int64 // average time between the ends of answers while others wait, ns
	ids      atomic.Uint64
	stats    atomic.Pointer[Stats]
	submit   chan submission // as large as capacity: a counted place always has room

	wake chan struct{} // capacity 1: something to look at

	mu       sync.Mutex
	cancels  []cancellation
	arrivals []arrival // from the remote tier
	released []int32   // host pages that it has read
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
	ended    time.Time // the latest end of an answer
	failures int       // steps that failed in a row
	failed   int       // steps that failed, ever
	costs    *Costs    // as of the latest look at them
	looked   time.Time
}

type submission struct {
	req    scheduler.Request
	stream *Stream
}

type cancellation struct {
	id     scheduler.ID
	choice int
}

// New calibrates the engine and starts the loop, which owns the engine from then
// on and closes it. After an error the engine is still the caller's.
func New(eng engine.Engine, opt Options) (*Loop, error) {
	if opt.TargetITL == 0 {
		opt.TargetITL = defaultTargetITL
	}
	if opt.Queue == 0 {
		opt.Queue = defaultQueue
	}
	if opt.Calibrate == 0 {
		opt.Calibrate = defaultCalibrate
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.TargetITL < 0 || opt.Queue < 0 || opt.QueueWait < 0 {
		return nil, errors.New("loop: the target ITL, the queue and its wait must not be negative")
	}
	if err := opt.Pages.check(eng.Limits()); err != nil {
		return nil, err
	}
	l := &Loop{
		eng:     eng,
		limits:  eng.Limits(),
		opt:     opt,
		origin:  time.Now(),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		streams: make(map[scheduler.ID]*Stream),
	}
	l.fetchCtx, l.stopFetches = context.WithCancel(context.Background())
	l.capacity = int64(opt.Queue + l.limits.Slots)
	l.submit = make(chan submission, l.capacity)
	l.sched = scheduler.New(scheduler.Config{
		Limits: l.limits, TargetITL: int64(opt.TargetITL), Guess: opt.Guess, Queue: int(l.capacity),
		Pages: opt.Pages.Host, KeepSaved: opt.Pages.Remote != nil || opt.Pages.Journal != nil,
	})
	if err := l.calibrate(); err != nil {
		return nil, err
	}
	l.publish()
	go l.run()
	return l, nil
}

// calibrate measures passes until the time is used up.
func (l *Loop) calibrate() error {
	c := l.sched.Calibrate()
	start := time.Now()
	passes := 0
	for time.Since(start) < l.opt.Calibrate {
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

func (l *Loop) now() scheduler.Tick { return scheduler.Tick(time.Since(l.origin)) }

// Hold keeps a place for a request whose prompt is still being prepared, so that
// one that finds the queue full learns it before any work is spent on it. release
// gives the place back, once; call it just before Submit, which takes its own. The
// error is a *BusyError.
func (l *Loop) Hold() (release func(), err error) {
	if place := l.places.Add(1); place > l.capacity {
		l.places.Add(-1)
		return nil, l.busy(place)
	}
	return sync.OnceFunc(func() { l.places.Add(-1) }), nil
}

// busy is the refusal of a place.
func (l *Loop) busy(place int64) error {
	return &BusyError{RetryAfter: min(max(l.expected(place)/2, minRetryAfter), maxRetryAfter)}
}

// expected is how long a place waits for its slot: for those ahead to end.
func (l *Loop) expected(place int64) time.Duration {
	return time.Duration(l.interval.Load() * max(0, place-int64(l.limits.Slots)))
}

// Submit hands a request in and returns its stream, without waiting for a running
// step. Request.ID and Request.Deadline are the loop's to set; wait bounds the
// time in the queue (0: Options.QueueWait). Errors: *BusyError,
// *scheduler.TooLongError, ErrDraining, or what is wrong with the request.
func (l *Loop) Submit(r scheduler.Request, wait time.Duration) (*Stream, error) {
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
	// Places are counted before anything else, so that a surplus is turned away
	// while the loop is busy with a step.
	n := int64(r.Choices)
	place := l.places.Add(n)
	if place > l.capacity || wait > 0 && l.expected(place) > wait {
		l.places.Add(-n)
		return nil, l.busy(place)
	}
	if wait > 0 {
		r.Deadline = l.now() + scheduler.Tick(wait)
	}
	s := newStream(l, r.ID, r.Choices)
	s.prompt = len(r.Prompt)
	l.mu.Lock()
	if l.draining || l.closing {
		l.mu.Unlock()
		l.places.Add(-n)
		return nil, ErrDraining
	}
	l.submit <- submission{r, s} // has room: places are counted
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
		plan, events := l.sched.Next(l.now())
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

// step runs a plan; what each pass gives is delivered while the next one waits.
func (l *Loop) step(plan engine.Plan) {
	var bad error
	for i := range plan.Edits {
		if e := &plan.Edits[i]; e.Kind == engine.EditSave {
			l.clear(e.Pages...)
		}
	}
	watch := l.opt.Observer.step(&plan)
	err := l.eng.Step(context.Background(), plan, func(out engine.Output) {
		watch.pass(&out, l.sched)
		events, err := l.sched.Apply(out, l.now())
		if err != nil && bad == nil {
			bad = err
		}
		l.deliver(events)
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
	l.deliver(l.sched.Fail(err, l.now()))
	if r, ok := l.eng.(engine.Restarter); ok && errors.Is(err, engine.ErrLost) {
		l.recover(r, err)
		return
	}
	l.pause(min(failureBackoff<<min(l.failures, 10), maxBackoff))
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

// receive takes what has been submitted and cancelled.
func (l *Loop) receive() {
	for {
		select {
		case sub := <-l.submit:
			if err := l.sched.Add(sub.req); err != nil {
				// Submit has checked all that Add checks; this would be a fault of ours.
				l.opt.Log.Error("a request was lost", "error", err)
				l.places.Add(-int64(sub.req.Choices))
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
	arrivals, released := l.arrivals, l.released
	l.arrivals, l.released = nil, nil
	l.mu.Unlock()
	l.settle(arrivals, released)
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
		l.places.Add(-1)
		l.observeEnd()
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

// observeEnd keeps the time between the ends of answers, which is what a place in
// the queue waits for.
func (l *Loop) observeEnd() {
	now := time.Now()
	if !l.ended.IsZero() && l.places.Load() >= int64(l.limits.Slots) {
		gap := float64(now.Sub(l.ended))
		old := float64(l.interval.Load())
		if old == 0 {
			old = gap
		}
		l.interval.Store(int64(math.Round(old + 0.1*(gap-old))))
	}
	l.ended = now
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

// Capacity is how many answers the loop holds, slots and queue together: a request
// for more can never be taken.
func (l *Loop) Capacity() int { return int(l.capacity) }

// Limits are the engine's.
func (l *Loop) Limits() engine.Limits { return l.limits }

// Time is when an event happened, by the wall clock as it is now: since the loop
// began the system may have set it.
func (l *Loop) Time(at scheduler.Tick) time.Time {
	return time.Now().Add(time.Duration(at - l.now()))
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
		if l.places.Load() == 0 {
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
