package loop

import (
	"errors"
	"log/slog"
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
	Guess     float64       // guess the tokens to come: see scheduler.Config
	DraftOnly bool          // leave that to the engine's draft model
	TargetITL time.Duration // time that a step may take while requests decode; 600 ms
	Queue     int           // requests that may wait, for a Group's loops together; 64
	QueueWait time.Duration // how long a request waits at most for its slot; 0: no bound
	Calibrate time.Duration // time that New may spend on measuring, longer where passes are: see patience; 1 s, negative: none
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
)

// complete sets defaults and checks the rest.
func (opt *Options) complete(l engine.Limits) error {
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
		return errors.New("loop: the target ITL, the queue and its wait must not be negative")
	}
	return opt.Pages.check(l)
}
