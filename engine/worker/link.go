package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	pulsePeriod = 500 * time.Millisecond // of a child
	// silence is how long a child may say nothing: with watchPeriod, one that is
	// stopped is noticed within 5 s.
	silence     = 4 * time.Second
	watchPeriod = 250 * time.Millisecond
	// suspended is a pause of the watch that means that this process stood still, not
	// the child.
	suspended = 2 * time.Second
	// endGrace is how long a child whose socket is closed may take to end.
	endGrace = 2 * time.Second
	// loadLimit is how long a child may take to load a model, pulses or not.
	loadLimit = 15 * time.Minute
)

// link is the gateway's end of a child: its frames are read by one goroutine and
// another one watches whether it lives.
type link struct {
	*process
	in     *frameReader
	out    *frameWriter
	origin time.Time

	heard    atomic.Int64           // when a frame came last, from origin
	deadline atomic.Int64           // when what it does takes too long; 0: it does nothing
	handing  atomic.Bool            // a frame is being handled: silence is ours
	cause    atomic.Pointer[string] // why it was killed
	loaded   chan ready             // capacity 1
	gone     chan struct{}          // closed when it has ended and its last frame is handled
}

// dial starts a child.
func dial(c command) (*link, error) {
	p, err := startProcess(c)
	if err != nil {
		return nil, err
	}
	return &link{process: p, in: newFrameReader(p.conn), out: newFrameWriter(p.conn), origin: time.Now(),
		loaded: make(chan ready, 1), gone: make(chan struct{})}, nil
}

// open tells the child what it is to be. Its frames, but pulses and kindReady, go to
// handle from then on, whose error ends it; handle must not keep a payload.
func (l *link) open(h hello, handle func(kind, []byte) error) {
	go l.watch()
	go l.run(handle)
	b, err := json.Marshal(h)
	if err == nil {
		err = l.out.put(kindHello, b...)
	}
	if err != nil && !gone(err) { // of one that is gone, its end says more
		l.abort("it could not be told what to be: " + err.Error())
	}
}

func (l *link) run(handle func(kind, []byte) error) {
	defer close(l.gone)
	err := l.read(handle)
	if !gone(err) {
		l.abort("it broke the protocol: " + err.Error())
	}
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	select {
	case <-l.exited:
	case <-timer.C:
		l.abort("it closed its socket and stayed")
		<-l.exited
	}
	_ = l.conn.Close()
}

func (l *link) read(handle func(kind, []byte) error) error {
	for {
		k, b, err := l.in.next()
		if err != nil {
			return err
		}
		l.heard.Store(int64(time.Since(l.origin)))
		if k == kindPulse {
			continue
		}
		l.handing.Store(true)
		if k == kindReady {
			err = l.load(b)
		} else {
			err = handle(k, b)
		}
		l.heard.Store(int64(time.Since(l.origin)))
		l.handing.Store(false)
		if err != nil {
			return err
		}
	}
}

// load takes what a child says when it has loaded.
func (l *link) load(b []byte) error {
	r, err := decodeReady(b)
	if err != nil {
		return err
	}
	select {
	case l.loaded <- r:
		return nil
	default:
		return errors.New("it is ready twice")
	}
}

// await waits until the child has loaded.
func (l *link) await(ctx context.Context) (ready, error) {
	l.arm(loadLimit)
	defer l.disarm()
	var r ready
	select {
	case r = <-l.loaded:
	case <-l.gone:
		select {
		case r = <-l.loaded:
		default:
			return r, fmt.Errorf("the process that loads the model ended: %s", l.reason())
		}
	case <-ctx.Done():
		l.quit()
		return r, ctx.Err()
	}
	if r.Error != "" {
		l.quit()
		return r, r.err()
	}
	return r, nil
}

// watch kills a child that is silent, or takes too long.
func (l *link) watch() {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	last := time.Duration(0)
	for {
		select {
		case <-l.gone:
			return
		case <-tick.C:
		}
		now := time.Since(l.origin)
		if pause := now - last; pause > suspended {
			l.heard.Store(int64(now))
			if d := l.deadline.Load(); d != 0 {
				l.deadline.CompareAndSwap(d, d+int64(pause))
			}
		}
		last = now
		if quiet := now - time.Duration(l.heard.Load()); quiet > silence && !l.handing.Load() {
			l.abort(fmt.Sprintf("no sign of life for %s", silence))
		}
		if d := l.deadline.Load(); d != 0 && int64(now) > d {
			l.abort("it takes far longer than such work has taken")
		}
	}
}

// arm says that the child should be heard of again within d, pulses not counted.
func (l *link) arm(d time.Duration) { l.deadline.Store(int64(time.Since(l.origin) + d)) }

func (l *link) disarm() { l.deadline.Store(0) }

// abort kills the child; the first reason counts.
func (l *link) abort(reason string) {
	l.cause.CompareAndSwap(nil, &reason)
	l.kill()
}

// quit ends the child as its parent's death would, by closing its socket, and waits
// for its end.
func (l *link) quit() {
	_ = l.conn.Close()
	<-l.gone
}

// reason says why the child is gone; it is.
func (l *link) reason() string {
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	return l.how()
}
