package server

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watcher looks at the sockets of all requests under way and cancels those whose
// client has gone, whatever state they are in and streamed or not. It is one
// goroutine, and only while there is something to watch; a look at one socket is
// one system call that neither blocks nor consumes.
type watcher struct {
	period time.Duration

	mu      sync.Mutex
	watched map[*watch]struct{}
	running bool
	closing bool          // after cut: what comes is cancelled at once
	empty   chan struct{} // closed when watched becomes empty; nil: nobody waits
}

// watch is one request under watch.
type watch struct {
	conn   syscall.RawConn // nil: not a socket that can be looked at
	cancel func()          // ends the request; called at most once by gone, once by cut
	gone   atomic.Bool     // the client has closed
}

// add begins to watch. cancel must not block; it may be called more than once.
func (w *watcher) add(conn net.Conn, cancel func()) *watch {
	e := &watch{conn: rawConn(conn), cancel: cancel}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		defer cancel()
	}
	if w.watched == nil {
		w.watched = map[*watch]struct{}{}
	}
	w.watched[e] = struct{}{}
	if !w.running {
		w.running = true
		go w.run()
	}
	return e
}

// remove ends the watch. Once it has returned, cancel will not be called any more
// by the watcher, except by a call that has begun.
func (w *watcher) remove(e *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watched, e)
	if len(w.watched) == 0 && w.empty != nil {
		close(w.empty)
		w.empty = nil
	}
}

// cut cancels all that is under watch, and all that will be.
func (w *watcher) cut() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	for _, e := range w.list(nil) {
		e.cancel()
	}
}

// idle returns a channel that is closed when nothing is under watch.
func (w *watcher) idle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watched) == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if w.empty == nil {
		w.empty = make(chan struct{})
	}
	return w.empty
}

func (w *watcher) list(buf []*watch) []*watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e := range w.watched {
		buf = append(buf, e)
	}
	return buf
}

func (w *watcher) run() {
	tick := time.NewTicker(w.period)
	defer tick.Stop()
	var buf []*watch
	for range tick.C {
		clear(buf)
		buf = w.list(buf[:0])
		for _, e := range buf {
			if e.conn != nil && !e.gone.Load() && peerGone(e.conn) {
				e.gone.Store(true)
				e.cancel()
			}
		}
		w.mu.Lock()
		if len(w.watched) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// rawConn finds the socket under conn.
func rawConn(conn net.Conn) syscall.RawConn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
