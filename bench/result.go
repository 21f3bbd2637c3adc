package bench

import (
	"slices"
	"time"
)

// Result is one run of a workload against a target.
type Result struct {
	Target   string        `json:"target"`
	Workload string        `json:"workload"`
	Wall     time.Duration `json:"wall_ns"` // first request's start to last answer's end
	Samples  []Sample      `json:"samples"`
}

// Summary is what a Result comes to. Failed requests count as errors and in
// nothing else.
type Summary struct {
	Target          string        `json:"target"`
	Workload        string        `json:"workload"`
	Requests        int           `json:"requests"`
	Errors          int           `json:"errors"`
	Reused          int           `json:"reused"` // requests over a kept-alive connection
	Wall            time.Duration `json:"wall_ns"`
	Prompt          int           `json:"prompt_tokens"`
	Cached          int           `json:"cached_tokens"`
	Tokens          int           `json:"tokens"`
	TokensPerSecond float64       `json:"tokens_per_second"`
	TTFT            Latency       `json:"ttft_ns"` // the request's due time to its first text
	ITL             Latency       `json:"itl_ns"`  // between neighbouring chunks with text, all streams together
}

// Summary computes the figures of a run.
func (r Result) Summary() Summary {
	s := Summary{Target: r.Target, Workload: r.Workload, Requests: len(r.Samples), Wall: r.Wall}
	var ttft, itl []time.Duration
	for _, sample := range r.Samples {
		if sample.Reused {
			s.Reused++
		}
		if sample.Err != "" {
			s.Errors++
			continue
		}
		s.Prompt += sample.Prompt
		s.Cached += sample.Cached
		s.Tokens += sample.Tokens
		if len(sample.Chunks) > 0 {
			ttft = append(ttft, sample.Chunks[0]-sample.Start)
		}
		itl = append(itl, sample.gaps(0, r.Wall)...)
	}
	if r.Wall > 0 {
		s.TokensPerSecond = float64(s.Tokens) / r.Wall.Seconds()
	}
	s.TTFT, s.ITL = NewLatency(ttft), NewLatency(itl)
	return s
}

// Errors lists what went wrong, one line for each failed request.
func (r Result) Errors() []string {
	var errs []string
	for _, s := range r.Samples {
		if s.Err != "" {
			errs = append(errs, s.Err)
		}
	}
	return errs
}

// gaps are the times between neighbouring chunks that both came in [from, to].
func (s Sample) gaps(from, to time.Duration) []time.Duration {
	var g []time.Duration
	for i := 1; i < len(s.Chunks); i++ {
		if s.Chunks[i-1] >= from && s.Chunks[i] <= to {
			g = append(g, s.Chunks[i]-s.Chunks[i-1])
		}
	}
	return g
}

// ChunksBy counts the chunks that had come by a time since the run began.
func (s Sample) ChunksBy(at time.Duration) int {
	n, _ := slices.BinarySearch(s.Chunks, at+1)
	return n
}

// Steady returns the ITLs of that part of a run in which all of samples were
// decoding, from the moment when each had sent its first skip+1 chunks to the
// first one's last chunk. It is empty where there was no such time, or where a
// sample failed.
func Steady(samples []Sample, skip int) []time.Duration {
	if len(samples) == 0 {
		return nil
	}
	var from time.Duration
	to := time.Duration(1<<63 - 1)
	for _, s := range samples {
		if s.Err != "" || len(s.Chunks) <= skip {
			return nil
		}
		from = max(from, s.Chunks[skip])
		to = min(to, s.Chunks[len(s.Chunks)-1])
	}
	var g []time.Duration
	for _, s := range samples {
		g = append(g, s.gaps(from, to)...)
	}
	return g
}
