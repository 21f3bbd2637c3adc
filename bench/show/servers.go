package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"llamero/bench"
)

// startAll starts Llamero and the peer, as far as the flags name them. stop ends
// those that have been started, whatever else is returned.
func startAll(ctx context.Context, c *config) (subjects []*bench.Served, stop func(), err error) {
	stop = func() {
		for _, s := range subjects {
			s.Stop()
		}
	}
	add := func(start func() (*bench.Served, error)) {
		if err != nil {
			return
		}
		var s *bench.Served
		if s, err = start(); err == nil {
			subjects = append(subjects, s)
		}
	}
	if c.llamero != "" {
		add(func() (*bench.Served, error) { return startLlamero(ctx, c) })
	}
	if c.peer != "" {
		add(func() (*bench.Served, error) { return startPeer(ctx, c) })
	}
	return subjects, stop, err
}

var errNoLlamero = errors.New("--llamero: a peer does not tell what this asks for")

func startLlamero(ctx context.Context, c *config, extra ...string) (*bench.Served, error) {
	if c.llamero == "" {
		return nil, errNoLlamero
	}
	s, err := bench.StartLlamero(ctx, c.llamero, c.Serving, extra...)
	return ready(ctx, s, err)
}

func startPeer(ctx context.Context, c *config) (*bench.Served, error) {
	s, err := bench.StartLlamaServer(ctx, c.peer, c.Serving)
	return ready(ctx, s, err)
}

// ready says what a server is and warms it.
func ready(ctx context.Context, s *bench.Served, err error) (*bench.Served, error) {
	if err != nil {
		return nil, err
	}
	info := s.Info()
	fmt.Printf("%s: %s\n  %s\n", info.Name, info.Version, strings.Join(info.Command, " "))
	if err := s.Warm(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// failures counts failed requests, and says so as an error: a table with errors
// in it proves nothing.
func failures(results ...bench.Result) error {
	failed, all := 0, 0
	for _, r := range results {
		failed += len(r.Errors())
		all += len(r.Samples)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, all)
	}
	return nil
}

// verdict compares a figure with the goal that it must not exceed.
func verdict(what string, s bench.Spread, goal float64) {
	word := "missed"
	if s.Median <= goal {
		word = "met"
	}
	fmt.Printf("%s: %s, goal ≤ %g: %s\n", what, s, goal, word)
}

// progress goes to standard error: what is printed at the end is the table.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
