package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"llamero/bench"
)

// show4: what a step costs once most requests have ended early, and at stream
// counts that llama.cpp's kernels take badly.
func show4(ctx context.Context, c *config) error {
	subjects, stop, err := startAll(ctx, c)
	defer stop()
	if err != nil {
		return err
	}
	if err := earlyEnds(ctx, c, subjects); err != nil {
		return err
	}
	return widths(ctx, c, subjects)
}

// earlyEnds compares the last quarter of a ragged workload with the same
// requests sent alone, over the same tokens of each.
func earlyEnds(ctx context.Context, c *config, subjects []*bench.Served) error {
	fmt.Printf("\n%d requests, of which three in four end after %d of %d tokens: a step of those that stay\n",
		c.clients, max(1, c.tokens/8), c.tokens)
	t := bench.NewTable("server", "ms among the ended", "ms alone from the start", "ratio")
	ratios := make([]bench.Spread, len(subjects))
	for i, s := range subjects {
		var among, alone []float64
		for round := range c.rounds {
			a, b, err := earlyEnd(ctx, c, s, round)
			if err != nil {
				return err
			}
			among, alone = append(among, a), append(alone, b)
			progress("%s, round %d: %.1f ms against %.1f ms", s.Name, round+1, a, b)
		}
		ratios[i] = bench.Ratios(among, alone)
		t.Row(s.Name, bench.NewSpread(among).String(), bench.NewSpread(alone).String(), ratios[i].String())
	}
	t.Write(os.Stdout)
	if c.llamero != "" {
		verdict("Llamero, among the ended over alone", ratios[0], 1.05)
	}
	return nil
}

// earlyEnd gives a step's milliseconds among the ended, and alone.
func earlyEnd(ctx context.Context, c *config, s *bench.Served, round int) (among, alone float64, err error) {
	all, err := c.workload("ragged", c.seed+uint64(round), c.clients)
	if err != nil {
		return 0, 0, err
	}
	mixed, err := bench.Once(ctx, s, all)
	if err != nil {
		return 0, 0, err
	}
	few, err := bench.Once(ctx, s, all.Keep(func(r bench.Request) bool { return r.MaxTokens == c.tokens }))
	if err != nil {
		return 0, 0, err
	}
	if err := failures(mixed, few); err != nil {
		return 0, 0, err
	}
	var left []bench.Sample
	var ended time.Duration
	for _, sample := range mixed.Samples {
		if bench.Stays(sample.Client) {
			left = append(left, sample)
		} else {
			ended = max(ended, sample.End)
		}
	}
	skip := 0
	for _, sample := range left {
		skip = max(skip, sample.ChunksBy(ended))
	}
	a, b := bench.Steady(left, skip), bench.Steady(few.Samples, skip)
	if len(a) < len(left) || len(b) < len(left) {
		return 0, 0, fmt.Errorf("%s: the %d long requests had no time to themselves; raise --tokens", s.Name, len(left))
	}
	return bench.Median(a).Seconds() * 1000, bench.Median(b).Seconds() * 1000, nil
}

// widths compares 7, 11 and 15 streams with one more of each.
func widths(ctx context.Context, c *config, subjects []*bench.Served) error {
	fmt.Println("\nA step of n streams against n + 1")
	t := bench.NewTable("server", "n", "ms at n", "ms at n + 1", "ratio")
	var ours []bench.Spread
	for _, n := range []int{7, 11, 15} {
		if n+1 > c.Slots {
			break
		}
		for _, s := range subjects {
			var steps [2][]float64
			for round := range c.rounds {
				for k := range steps {
					k = (k + round) % 2
					step, err := width(ctx, c, s, n+k, round)
					if err != nil {
						return err
					}
					steps[k] = append(steps[k], step)
				}
			}
			ratio := bench.Ratios(steps[0], steps[1])
			if s.Name == "llamero" {
				ours = append(ours, ratio)
			}
			t.Row(s.Name, fmt.Sprint(n), bench.NewSpread(steps[0]).String(), bench.NewSpread(steps[1]).String(), ratio.String())
			progress("%s: %d streams against %d: %s", s.Name, n, n+1, ratio)
		}
	}
	t.Write(os.Stdout)
	for i, r := range ours {
		verdict(fmt.Sprintf("Llamero, %d streams over %d", 7+4*i, 8+4*i), r, 1)
	}
	return nil
}

// width gives the milliseconds of a step of n streams.
func width(ctx context.Context, c *config, s *bench.Served, n, round int) (float64, error) {
	w, err := c.workload("disjoint", c.seed+uint64(round), n)
	if err != nil {
		return 0, err
	}
	r, err := bench.Once(ctx, s, w)
	if err != nil {
		return 0, err
	}
	if err := failures(r); err != nil {
		return 0, err
	}
	steady := bench.Steady(r.Samples, 0)
	if len(steady) < n {
		return 0, fmt.Errorf("%s: %d streams were never all decoding; raise --tokens", s.Name, n)
	}
	return bench.Median(steady).Seconds() * 1000, nil
}
