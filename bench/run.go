package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Run sends a workload to a target, all clients at once, and waits for the last
// answer. When ctx ends, requests under way are cut off and count as errors, and
// those not yet sent are left out.
func Run(ctx context.Context, t *Target, w Workload) Result {
	answers := make([][]Sample, len(w.Clients))
	gate := make(chan struct{})
	var (
		origin time.Time
		done   sync.WaitGroup
	)
	for i, requests := range w.Clients {
		done.Go(func() {
			<-gate
			answers[i] = converse(ctx, t, origin, i, requests)
		})
	}
	origin = time.Now()
	close(gate)
	done.Wait()

	result := Result{Target: t.Name, Workload: w.Name}
	for _, a := range answers {
		for _, s := range a {
			result.Wall = max(result.Wall, s.End)
			result.Samples = append(result.Samples, s)
		}
	}
	return result
}

// converse sends one client's requests, each when it is due and the one before it
// has been answered.
func converse(ctx context.Context, t *Target, origin time.Time, client int, requests []Request) []Sample {
	var samples []Sample
	var history []Message // the last request's messages and their answer
	broken := false       // the last request failed: nothing can follow on it
	for turn, r := range requests {
		s := Sample{Err: "not sent: the turn before it failed"}
		if !r.Follows || !broken {
			if !waitUntil(ctx, origin.Add(r.At)) {
				break
			}
			if r.Follows {
				r.Messages = append(slices.Clip(history), r.Messages...)
			}
			s = t.Do(ctx, origin, r, nil)
			history = append(slices.Clip(r.Messages), Message{"assistant", s.Text})
		}
		broken = s.Err != ""
		s.Client, s.Turn = client, turn
		samples = append(samples, s)
	}
	return samples
}

// waitUntil reports whether the time came before ctx ended.
func waitUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
