package main

import (
	"context"
	"fmt"
	"time"

	"llamero/bench"
)

// show2: one stream, one prompt; the time a token takes, first token left out.
func show2(ctx context.Context, c *config) error {
	subjects, stop, err := startAll(ctx, c)
	if err != nil {
		return err
	}
	defer stop()
	if err := warm(ctx, subjects); err != nil {
		return err
	}
	results, err := inTurns(ctx, c, subjects, func(seed uint64) (bench.Workload, error) {
		return bench.New("single", bench.Options{Seed: seed, Words: c.words, Tokens: c.tokens})
	})
	if err != nil {
		return err
	}
	t := newTable("server\tms a token\tprompt tokens\ttokens")
	perToken := make([][]float64, len(subjects))
	for i, s := range subjects {
		perToken[i] = each(results[i], func(r bench.Result) float64 { return tokenTime(r).Seconds() * 1000 })
		first := results[i][0].Summary()
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\n", s.Name, bench.NewSpread(perToken[i]), first.Prompt, first.Tokens)
	}
	t.Flush()
	if c.raw > 0 && c.llamero != "" {
		raw := make([]float64, len(perToken[0]))
		for i := range raw {
			raw[i] = c.raw.Seconds() * 1000
		}
		verdict("Llamero over the plain loop", bench.Ratios(perToken[0], raw), 1.03, true)
	}
	if len(subjects) == 2 {
		fmt.Printf("Llamero over llama-server: %s\n", bench.Ratios(perToken[0], perToken[1]))
	}
	return failures(results...)
}

// tokenTime is the mean time of a stream's tokens after its first chunk; 0 if
// there are none.
func tokenTime(r bench.Result) time.Duration {
	for _, s := range r.Samples {
		if n := len(s.Chunks); n > 1 {
			return (s.Chunks[n-1] - s.Chunks[0]) / time.Duration(n-1)
		}
	}
	return 0
}
