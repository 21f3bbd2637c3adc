package main

import (
	"context"
	"fmt"
	"time"

	"llamero/bench"
)

// inTurns runs a workload of its own on each subject, round after round, the
// order turned around each time so that a drift of the machine favours nobody.
// A round has the same seed for all and no two rounds share one, so that no
// server profits from prompts it has seen. The results
// are by subject, then by round.
func inTurns(ctx context.Context, c *config, subjects []*subject, workload func(seed uint64) (bench.Workload, error)) ([][]bench.Result, error) {
	results := make([][]bench.Result, len(subjects))
	for round := range c.rounds {
		w, err := workload(c.seed + uint64(round))
		if err != nil {
			return nil, err
		}
		for i := range subjects {
			if round%2 == 1 {
				i = len(subjects) - 1 - i
			}
			r, err := once(ctx, subjects[i], w)
			if err != nil {
				return nil, err
			}
			progress("round %d of %d: %s, %d × %s: %s s", round+1, c.rounds, r.Target, len(w.Clients), r.Workload, sec(r.Wall))
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

// runLimit bounds one run of a workload: ten times what the slowest needs on an
// idle pair of cores. On a busy machine llama.cpp's spinning barriers can make a
// run that slow, and then its figures mean nothing.
const runLimit = 10 * time.Minute

// once runs a workload on a settled server.
func once(ctx context.Context, s *subject, w bench.Workload) (bench.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("a run took longer than %s: is the machine busy?", runLimit))
	defer cancel()
	settle(ctx)
	r := bench.Run(ctx, s.Target, w)
	if err := context.Cause(ctx); err != nil {
		return r, fmt.Errorf("%s, %s: %w", s.Name, w.Name, err)
	}
	printErrors(r)
	return r, nil
}

// each applies f to every result and gives the figures of one subject.
func each(results []bench.Result, f func(bench.Result) float64) []float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = f(r)
	}
	return values
}

// failures counts failed requests, and says so as an error: a table with errors
// in it proves nothing.
func failures(results ...[]bench.Result) error {
	failed, all := 0, 0
	for _, of := range results {
		for _, r := range of {
			failed += len(r.Errors())
			all += len(r.Samples)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, all)
	}
	return nil
}

// verdict compares a figure with the goal that the project has set itself.
func verdict(what string, s bench.Spread, goal float64, atMost bool) {
	sign, met := "≥", s.Median >= goal
	if atMost {
		sign, met = "≤", s.Median <= goal
	}
	word := "missed"
	if met {
		word = "met"
	}
	fmt.Printf("%s: %s, goal %s %g: %s\n", what, s, sign, goal, word)
}
