package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Server is the gateway's HTTP side. Make one with New.
type Server struct {
	opt    Options
	log    *slog.Logger
	keys   keyring
	models map[string]*Model
	order  []*Model // as configured

	app     *fiber.App
	watch   watcher
	drained atomic.Bool // Drain was called: no new requests

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // open ones, to close what does not end by itself
	closed bool

	// For tests: what would make answers differ from run to run.
	now   func() time.Time
	newID func(prefix string) string
}

// writeBuffer is what the system holds for a client that does not read; Linux doubles
// it. Left to itself it takes megabytes, and no write ever waits long enough to tell.
const writeBuffer = 32 << 10

// idleWorkers is how long a connection's goroutine outlives it at least; twice that at
// most.
const idleWorkers = 250 * time.Millisecond

// New returns a server, or every problem of its options.
func New(opt Options) (*Server, error) {
	opt.setDefaults()
	if err := opt.validate(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := &Server{
		opt: opt, log: opt.Logger, keys: newKeyring(opt.Keys), models: map[string]*Model{},
		watch: watcher{period: opt.WatchPeriod},
		conns: map[net.Conn]struct{}{},
		now:   time.Now, newID: newID,
	}
	for i := range opt.Models {
		m := &opt.Models[i]
		s.models[m.Alias] = m
		s.order = append(s.order, m)
	}
	s.app = fiber.New(fiber.Config{
		AppName:                      "llamero",
		DisableStartupMessage:        true,
		BodyLimit:                    opt.BodyLimit,
		ReadBufferSize:               opt.HeaderLimit,
		Concurrency:                  opt.MaxConns,
		ReadTimeout:                  opt.ReadTimeout,
		IdleTimeout:                  opt.IdleTimeout,
		WriteTimeout:                 0, // it would be one deadline for a whole stream
		DisablePreParseMultipartForm: true,
		StreamRequestBody:            true, // see input.go
		ErrorHandler:                 s.unreadable,
	})
	s.app.Server().SecureErrorLogMessage = true // its errors quote headers otherwise, keys and all
	// A goroutine is cheap to make: those of connections that have gone need not wait
	// ten seconds for others.
	s.app.Server().MaxIdleWorkerDuration = idleWorkers
	s.app.Server().ConnState = s.connState
	s.app.Server().Handler = s.knownMethod(s.app.Server().Handler)
	s.routes()
	return s, nil
}

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("server: closed")

// Listen serves on addr ("127.0.0.1:8080", ":8080") until Shutdown.
func (s *Server) Listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return s.Serve(ln)
}

// Serve serves on ln until Shutdown; then it returns nil. It may be called once.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		ln.Close()
		return ErrClosed
	}
	if err := s.app.Listener(ln); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func (s *Server) connState(c net.Conn, st fasthttp.ConnState) {
	switch st {
	case fasthttp.StateNew:
		if b, ok := c.(interface{ SetWriteBuffer(bytes int) error }); ok {
			_ = b.SetWriteBuffer(writeBuffer) // without, a slow reader costs more, and all works
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

// Drain flips readiness: from now on new requests get 503, and every answer ends
// its connection. What is under way goes on.
func (s *Server) Drain() { s.drained.Store(true) }

// shutdownGrace is for the last words to streams that are cut off.
const shutdownGrace = 2 * time.Second

// Shutdown drains, waits for what is under way, and stops listening. What has not
// ended when ctx does is cut off with an error on its stream; a client that does
// not even take that has its connection closed. It returns ctx's error if anything
// was cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()

	var cutOff error
	select {
	case <-s.watch.idle():
	case <-ctx.Done():
		cutOff = ctx.Err()
		s.watch.cut()
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := s.app.ShutdownWithContext(grace)
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // closed the hard way just now
	}
	return errors.Join(cutOff, err)
}

// ready reports whether every model takes requests.
func (s *Server) ready() bool {
	if s.drained.Load() {
		return false
	}
	for _, m := range s.order {
		if t, ok := m.Tokenizer.(interface{ Ready() bool }); ok && !t.Ready() || !m.Loop.Stats().Ready {
			return false
		}
	}
	return true
}
