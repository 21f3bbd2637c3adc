package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"llamero/bench"
)

// show3: as many streams as slots, each with a long prompt of its own, in
// rounds over connections that stay open; then Llamero alone at other targets.
func show3(ctx context.Context, c *config) error {
	if err := show3Rounds(ctx, c); err != nil {
		return err
	}
	if c.llamero == "" || len(c.curve) == 0 {
		return nil
	}
	return show3Curve(ctx, c)
}

func disjoint(c *config) func(seed uint64) (bench.Workload, error) {
	return func(seed uint64) (bench.Workload, error) {
		return bench.New("disjoint", bench.Options{Seed: seed, Clients: c.clients, Words: c.words, Tokens: c.tokens})
	}
}

func show3Rounds(ctx context.Context, c *config) error {
	subjects, stop, err := startAll(ctx, c)
	if err != nil {
		return err
	}
	defer stop()
	if err := warm(ctx, subjects); err != nil {
		return err
	}
	results, err := inTurns(ctx, c, subjects, disjoint(c))
	if err != nil {
		return err
	}
	t := newTable("server\tround\t" + latencyHead)
	for round := range c.rounds {
		for i, s := range subjects {
			fmt.Fprintf(t, "%s\t%d\t", s.Name, round+1)
			latencyRow(t, results[i][round].Summary())
		}
	}
	t.Flush()
	if len(subjects) == 2 {
		ratio := func(over, under int, f func(bench.Summary) time.Duration) bench.Spread {
			figure := func(r bench.Result) float64 { return f(r.Summary()).Seconds() }
			return bench.Ratios(each(results[over], figure), each(results[under], figure))
		}
		ttft := ratio(1, 0, func(s bench.Summary) time.Duration { return s.TTFT.P50 })
		fmt.Printf("TTFT p50, llama-server over Llamero: %s\n", ttft)
		verdict("wall, Llamero over llama-server", ratio(0, 1, func(s bench.Summary) time.Duration { return s.Wall }), 1.05, true)
		verdict("ITL p99, llama-server over Llamero", ratio(1, 0, func(s bench.Summary) time.Duration { return s.ITL.P99 }), 5, false)
	}
	return failures(results...)
}

func show3Curve(ctx context.Context, c *config) error {
	fmt.Println("\nLlamero by --target-itl:")
	var results []bench.Result
	for _, target := range c.curve {
		at := *c
		at.targetITL = target
		r, err := show3Point(ctx, &at)
		if err != nil {
			return err
		}
		progress("target %s: %s s", target, sec(r.Wall))
		results = append(results, r)
	}
	t := newTable("target\t" + latencyHead)
	for i, r := range results {
		fmt.Fprintf(t, "%s\t", c.curve[i])
		latencyRow(t, r.Summary())
	}
	t.Flush()
	return failures(results)
}

// show3Point runs a server of its own for one point of the curve.
func show3Point(ctx context.Context, c *config) (bench.Result, error) {
	s, err := startLlamero(ctx, c)
	if err != nil {
		return bench.Result{}, err
	}
	defer s.stop()
	if err := warm(ctx, []*subject{s}); err != nil {
		return bench.Result{}, err
	}
	w, err := disjoint(c)(c.seed)
	if err != nil {
		return bench.Result{}, err
	}
	return once(ctx, s, w)
}

const latencyHead = "wall s\ttok/s\tTTFT p50 s\tp99 s\tITL p50 ms\tp95 ms\tp99 ms\tmax ms\tprompt tok\terrors\tkept alive"

func latencyRow(w io.Writer, s bench.Summary) {
	fmt.Fprintf(w, "%s\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d of %d\n", sec(s.Wall), s.TokensPerSecond,
		sec(s.TTFT.P50), sec(s.TTFT.P99), ms(s.ITL.P50), ms(s.ITL.P95), ms(s.ITL.P99), ms(s.ITL.Max),
		s.Prompt, s.Errors, s.Reused, s.Requests)
}
