package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// Subject is what a workload is run on.
type Subject interface {
	Info() Info
	// Takes says whether the subject can run a workload.
	Takes(workload string) bool
	// Run sends a workload and waits for its last answer. An error means that there
	// was no run to speak of; a request that failed is in the Result.
	Run(ctx context.Context, w Workload) (Result, error)
}

// Info says what a subject is.
type Info struct {
	Name    string   `json:"name"`
	Version string   `json:"version,omitempty"`
	Command []string `json:"command,omitempty"` // empty: it was running already
	URL     string   `json:"url,omitempty"`
	Model   string   `json:"model,omitempty"`
}

// RunLimit bounds one run of a workload, beside the time that its requests take to
// become due: ten times what the slowest needs on an idle pair of cores. On a busy
// machine llama.cpp's spinning barriers can make a run that slow, and then its
// figures mean nothing.
const RunLimit = 10 * time.Minute

// settleTime lets a server finish what an earlier round left running, so that a
// round starts on an idle machine. llama-server's threads stay awake for a tenth of a
// second behind their last pass, or longer by the processor: with less, whoever comes
// next has its first token half as late again.
const settleTime = 500 * time.Millisecond

// Rounds runs a workload of its own on each subject, round after round, the order
// turned around each time so that a drift of the machine favours nobody. A round
// has the same seed for all and no two rounds share one, so that no server profits
// from prompts it has seen. The results are by subject, then by round.
func Rounds(ctx context.Context, subjects []Subject, rounds int, workload func(round int) (Workload, error), p *Progress) ([][]Result, error) {
	results := make([][]Result, len(subjects))
	for round := range rounds {
		w, err := workload(round)
		if err != nil {
			return nil, err
		}
		for i := range subjects {
			if round%2 == 1 {
				i = len(subjects) - 1 - i
			}
			p.Begin(fmt.Sprintf("round %d of %d: %s, %s", round+1, rounds, subjects[i].Info().Name, w.Name))
			r, err := Once(ctx, subjects[i], w)
			if err != nil {
				return nil, err
			}
			p.End(fmt.Sprintf("round %d of %d: %s, %d × %s: %.2f s", round+1, rounds, r.Target, len(w.Clients), r.Workload, r.Wall.Seconds()))
			p.Errors(r)
			results[i] = append(results[i], r)
		}
	}
	return results, nil
}

// Once runs a workload on a settled subject.
func Once(ctx context.Context, s Subject, w Workload) (Result, error) {
	limit := RunLimit
	for _, c := range w.Clients {
		for _, r := range c {
			limit = max(limit, r.At+RunLimit)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("a run took longer than %s: is the machine busy?", limit))
	defer cancel()
	runtime.GC() // the client's own garbage does not fall into the next round
	if !waitUntil(ctx, time.Now().Add(settleTime)) {
		return Result{}, context.Cause(ctx)
	}
	r, err := s.Run(ctx, w)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return r, fmt.Errorf("%s, %s: %w", s.Info().Name, w.Name, err)
	}
	return r, nil
}
