package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	maxLog   = 256 << 20 // bytes of a log that are read
	logLimit = 10 * time.Second
	logPoll  = 20 * time.Millisecond
)

// refusals reads from a log in JSON how long the server took over its 429 answers:
// those after the first skip ones. Lines are written behind the answers, so it waits
// until there are as many as wanted.
func refusals(ctx context.Context, log string, skip, want int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, logLimit)
	defer cancel()
	poll := time.NewTicker(logPoll)
	defer poll.Stop()
	for {
		all, err := readRefusals(log)
		if err != nil {
			return nil, err
		}
		if len(all) >= skip+want {
			return all[skip : skip+want], nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the log has %d of %d refusals: %w", len(all), skip+want, context.Cause(ctx))
		}
	}
}

func readRefusals(log string) ([]time.Duration, error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []time.Duration
	for lines := bufio.NewScanner(io.LimitReader(f, maxLog)); lines.Scan(); {
		var line struct {
			Status   int
			Duration time.Duration
		}
		// What is not JSON is llama.cpp's, or not whole yet.
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Status == http.StatusTooManyRequests {
			all = append(all, line.Duration)
		}
	}
	return all, nil
}
