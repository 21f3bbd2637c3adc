package bench

import (
	"context"
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
			for _, r := range requests {
				if ctx.Err() != nil {
					return
				}
				s := t.Do(ctx, origin, r, nil)
				s.Client = i
				answers[i] = append(answers[i], s)
			}
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
