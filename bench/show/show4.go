package main

import (
	"context"
	"fmt"
	"time"

	"llamero/bench"
)

// show4: what a step costs once most requests have ended early, and at stream
// counts that llama.cpp's kernels take badly.
func show4(ctx context.Context, c *config) error {
	subjects, stop, err := startAll(ctx, c)
	if err != nil {
		return err
	}
	defer stop()
	if err := warm(ctx, subjects); err != nil {
		return err
	}
	if err := earlyEnds(ctx, c, subjects); err != nil {
		return err
	}
	return widths(ctx, c, subjects)
}

// earlyEnds compares the last quarter of a ragged workload with the same
// requests sent alone, over the same tokens of each.
func earlyEnds(ctx context.Context, c *config, subjects []*subject) error {
	stays := func(r bench.Request) bool { return r.MaxTokens == c.tokens }
	fmt.Printf("\n%d requests, of which three in four end after %d of %d tokens: a step of those that stay\n",
		c.clients, max(1, c.tokens/8), c.tokens)
	t := newTable("server\tms among the ended\tms alone from the start\tratio")
	ratios := make([]bench.Spread, len(subjects))
	for i, s := range subjects {
		var among, alone []float64
		for round := range c.rounds {
			all, err := bench.New("ragged", bench.Options{Seed: c.seed + uint64(round), Clients: c.clients, Words: c.words, Tokens: c.tokens})
			if err != nil {
				return err
			}
			mixed, err := once(ctx, s, all)
			if err != nil {
				return err
			}
			few, err := once(ctx, s, all.Keep(stays))
			if err != nil {
				return err
			}
			if err := failures([]bench.Result{mixed, few}); err != nil {
				return err
			}
			var left []bench.Sample
			var ended time.Duration
			for _, sample := range mixed.Samples {
				if stays(all.Clients[sample.Client][0]) {
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
				return fmt.Errorf("%s: the %d long requests had no time to themselves; raise --tokens", s.Name, len(left))
			}
			among = append(among, bench.Median(a).Seconds()*1000)
			alone = append(alone, bench.Median(b).Seconds()*1000)
			progress("%s, round %d: from token %d on, %.1f ms against %.1f ms", s.Name, round+1, skip, among[round], alone[round])
		}
		ratios[i] = bench.Ratios(among, alone)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, bench.NewSpread(among), bench.NewSpread(alone), ratios[i])
	}
	t.Flush()
	if c.llamero != "" {
		verdict("Llamero, among the ended over alone", ratios[0], 1.05, true)
	}
	return nil
}

// widths compares 7, 11 and 15 streams with one more of each.
func widths(ctx context.Context, c *config, subjects []*subject) error {
	fmt.Println("\nA step of n streams against n + 1")
	t := newTable("server\tn\tms at n\tms at n + 1\tratio")
	var ours []bench.Spread
	for _, n := range []int{7, 11, 15} {
		if n+1 > c.slots {
			break
		}
		for _, s := range subjects {
			var steps [2][]float64
			for round := range c.rounds {
				for k := range steps {
					k = (k + round) % 2
					w, err := bench.New("disjoint", bench.Options{Seed: c.seed + uint64(round), Clients: n + k, Words: c.words, Tokens: c.tokens})
					if err != nil {
						return err
					}
					r, err := once(ctx, s, w)
					if err != nil {
						return err
					}
					if err := failures([]bench.Result{r}); err != nil {
						return err
					}
					steady := bench.Steady(r.Samples, 0)
					if len(steady) < n {
						return fmt.Errorf("%s: %d streams were never all decoding; raise --tokens", s.Name, n+k)
					}
					steps[k] = append(steps[k], bench.Median(steady).Seconds()*1000)
				}
			}
			ratio := bench.Ratios(steps[0], steps[1])
			if s.Name == "llamero" {
				ours = append(ours, ratio)
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", s.Name, n, bench.NewSpread(steps[0]), bench.NewSpread(steps[1]), ratio)
			progress("%s: %d streams against %d: %s", s.Name, n, n+1, ratio)
		}
	}
	t.Flush()
	for i, r := range ours {
		verdict(fmt.Sprintf("Llamero, %d streams over %d", 7+4*i, 8+4*i), r, 1, true)
	}
	return nil
}
