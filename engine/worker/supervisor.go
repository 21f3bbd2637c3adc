package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"time"

	"llamero/engine"
	"llamero/engine/llama"
)

var errClosed = errors.New("worker: closed")

// Engine is an engine that says what it runs; *llama.Engine is one.
type Engine interface {
	engine.Engine
	Info() llama.Info
	// Form names how a page's bytes are laid out; "" without pages.
	Form() string
	// Unpaged says why there are no pages; nil if there are, or if none were asked for.
	Unpaged() error
}

// Options of a Supervisor; zero values are defaults.
type Options struct {
	Process
	Engine llama.Options // its Slab is not used: see the next
	Slab   Memory        // of host pages; none: no pages
	Ring   int64         // bytes that saves pass through; 0: 64 MiB

	hung time.Duration // what a step may take, where a test cannot wait; 0: as patience has it
}

const defaultRing = 64 << 20

// Supervisor is an engine in a process of its own, and in the next one when that one
// has died or hung: see engine.Restarter.
type Supervisor struct {
	keeper *keeper[*engineChild]
	bound  *engineChild // whose slots the caller knows
	first  ready        // what all children must be like
	closed bool
}

var (
	_ engine.Restarter = (*Supervisor)(nil)
	_ Engine           = (*Supervisor)(nil)
	_ Engine           = (*llama.Engine)(nil)
)

// Start starts an engine's process and returns once it has loaded. The error is that
// of loading, if that is what failed.
func Start(o Options) (*Supervisor, error) {
	if o.Ring == 0 {
		o.Ring = defaultRing
	}
	if o.Ring < 0 || o.Slab.File == nil != (o.Slab.Bytes == nil) {
		return nil, fmt.Errorf("worker: a ring of %d bytes, or half a slab", o.Ring)
	}
	if o.Engine.Threads == 0 {
		o.Engine.Threads = runtime.GOMAXPROCS(0)
	}
	var ring Memory
	if o.Slab.File != nil {
		var err error
		if ring, err = newMemory("llamero ring", o.Ring, false); err != nil {
			return nil, err
		}
	}
	s := &Supervisor{}
	k, err := keep("engine", o.logger(), func(ctx context.Context) (*engineChild, error) {
		c, err := startEngine(ctx, o, ring)
		if err != nil {
			return nil, err
		}
		if s.first == (ready{}) {
			s.first = c.ready
		} else if s.first != c.ready {
			c.quit()
			return nil, errors.New("it is not what it was: the model or the libraries have been replaced; restart the gateway")
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	s.keeper = k
	s.bound, _, _ = k.get()
	return s, nil
}

// startEngine starts one child and waits until it has loaded.
func startEngine(ctx context.Context, o Options, ring Memory) (*engineChild, error) {
	h := hello{Protocol: protocol, Build: build(), Role: roleEngine, Level: level(o.logger()), Options: o.Engine}
	h.Options.Slab = nil
	// What the child does in Go, sampling for the most part, it does while the
	// library's threads wait: as many processors as they have, and no more.
	o.Env = append([]string{"GOMAXPROCS=" + strconv.Itoa(o.Engine.Threads)}, o.Env...)
	cmd, err := o.command(roleEngine)
	if err != nil {
		return nil, err
	}
	if o.Slab.File != nil {
		cmd.files = append(cmd.files, o.Slab.File, ring.File)
		h.Slab, h.Ring = int64(len(o.Slab.Bytes)), int64(len(ring.Bytes))
	}
	c := &engineChild{messages: make(chan message, maxPending), slab: o.Slab.Bytes, ring: ring.Bytes, hung: o.hung}
	if c.link, err = dial(cmd); err != nil {
		return nil, err
	}
	c.open(h, c.handle)
	c.ready, err = c.await(ctx)
	if err != nil {
		return nil, err
	}
	if l := &c.ready.Limits; l.Pages > 0 {
		c.layout = newLayout(h.Slab, h.Ring, int64(max(1, l.PageBytes)))
		if l.PageBytes < 1 || l.PageTokens < 1 || l.Pages != int(c.layout.pages) || c.layout.slots < 1 {
			c.quit()
			return nil, fmt.Errorf("worker: %d pages of %d bytes in %d", l.Pages, l.PageBytes, h.Slab)
		}
	}
	return c, nil
}

// level is the least severe level that a log takes.
func level(log *slog.Logger) slog.Level {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if log.Enabled(context.Background(), l) {
			return l
		}
	}
	return slog.LevelError
}

// Step implements engine.Engine.
func (s *Supervisor) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	if s.closed {
		return errClosed
	}
	current, why, _ := s.keeper.get()
	if current != s.bound {
		// What the slots held went with the child that held it.
		if why == "" {
			why = "another process has taken its place"
		}
		return &engine.LostError{Reason: why}
	}
	return s.bound.step(ctx, p, emit)
}

// Recover implements engine.Restarter.
func (s *Supervisor) Recover(ctx context.Context) error {
	if s.closed {
		return errClosed
	}
	c, err := s.keeper.wait(ctx)
	if err != nil {
		return err
	}
	s.bound = c
	return nil
}

// Ready implements engine.Restarter.
func (s *Supervisor) Ready() bool {
	c, _, _ := s.keeper.get()
	return c != nil
}

// Limits implements engine.Engine.
func (s *Supervisor) Limits() engine.Limits { return s.first.Limits }

// Info says what the model is.
func (s *Supervisor) Info() llama.Info { return s.first.Info }

// Form names how a page's bytes are laid out; "" without pages.
func (s *Supervisor) Form() string { return s.first.Form }

// Unpaged says why the model is served without host pages; nil if it is with, or if
// none were asked for.
func (s *Supervisor) Unpaged() error {
	if s.first.Unpaged == "" {
		return nil
	}
	return errors.New(s.first.Unpaged)
}

// Close ends the process.
func (s *Supervisor) Close() error {
	if !s.closed {
		s.closed = true
		s.keeper.close()
	}
	return nil
}
