package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"llamero/bench"
)

const (
	refusalGoal = 10 * time.Millisecond
	maxRetry    = 8 // seconds a client may be told to wait
)

// show6: more requests in one moment than slots and queue hold. The client shares the
// machine, so what the server itself took is read from its log.
func show6(ctx context.Context, c *config) error {
	s, err := startLlamero(ctx, c, "--log-format", "json", "--log-level", "info")
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Printf("%d requests at once, %d slots, a queue of %d\n", c.clients, c.Slots, c.Queue)
	t := bench.NewTable("round", "complete", "refused", "other errors", "refusal p50 ms", "p99 ms", "max ms",
		"in the server p50 ms", "p99 ms", "max ms", "sent until ms", "Retry-After s")
	var client, server []float64
	var errs []error
	refused := 0
	for round := range c.rounds {
		w, err := c.workload("disjoint", c.seed+uint64(round), c.clients)
		if err != nil {
			return err
		}
		samples, err := burst(ctx, s, w)
		if err != nil {
			return err
		}
		b := judge(samples)
		logged, err := refusals(ctx, s.Server.Log, refused, b.answered429)
		if err != nil {
			return err
		}
		refused += b.answered429
		own := bench.NewLatency(logged)
		t.Row(fmt.Sprint(round+1), fmt.Sprint(b.complete), fmt.Sprint(b.refused), fmt.Sprint(len(b.errs)),
			ms(b.latency.P50), ms(b.latency.P99), ms(b.latency.Max), ms(own.P50), ms(own.P99), ms(own.Max),
			ms(b.sent), fmt.Sprintf("%d…%d", b.retryMin, b.retryMax))
		client = append(client, b.latency.P99.Seconds()*1000)
		server = append(server, own.P99.Seconds()*1000)
		errs = append(errs, b.errs...)
		if b.refused == 0 && c.clients > c.Slots+c.Queue {
			errs = append(errs, errors.New("nothing was refused"))
		}
	}
	t.Write(os.Stdout)
	verdict("refusal p99 in ms at the client", bench.NewSpread(client), float64(refusalGoal.Milliseconds()))
	verdict("refusal p99 in ms in the server", bench.NewSpread(server), float64(refusalGoal.Milliseconds()))
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("… and %d more", len(errs)-3))
	}
	return errors.Join(errs...)
}

// burst opens a connection for each client, then sends all requests at once:
// what is measured is the answer, not the TCP handshake.
func burst(ctx context.Context, s *bench.Served, w bench.Workload) ([]bench.Sample, error) {
	var (
		samples = make([]bench.Sample, len(w.Clients))
		targets = make([]*bench.Target, len(w.Clients))
		gate    = make(chan struct{})
		origin  time.Time
		done    sync.WaitGroup
	)
	for i := range targets {
		targets[i] = bench.NewTarget(s.Name, s.URL, s.Model)
		defer targets[i].HTTP.CloseIdleConnections()
		if err := connect(ctx, targets[i]); err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	for i, client := range w.Clients {
		done.Go(func() {
			<-gate
			samples[i] = targets[i].Do(ctx, origin, client[0], nil)
		})
	}
	origin = time.Now()
	close(gate)
	done.Wait()
	return samples, context.Cause(ctx)
}

func connect(ctx context.Context, t *bench.Target) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := t.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return err
}

// outcome sums up a burst.
type outcome struct {
	complete, refused  int
	answered429        int           // with whatever Retry-After
	latency            bench.Latency // of refusals: request written to first byte of the answer
	sent               time.Duration // when the last request was written
	retryMin, retryMax int           // Retry-After of refusals
	errs               []error
}

func judge(samples []bench.Sample) outcome {
	var b outcome
	var latency []time.Duration
	for _, s := range samples {
		b.sent = max(b.sent, s.Sent)
		switch {
		case s.Err == "":
			b.complete++
		case s.Status == http.StatusTooManyRequests:
			b.answered429++
			retry, err := strconv.Atoi(s.Retry)
			if err != nil || retry < 0 || retry > maxRetry {
				b.errs = append(b.errs, fmt.Errorf("429 with Retry-After %q: not 0…%d seconds", s.Retry, maxRetry))
				continue
			}
			if b.refused == 0 {
				b.retryMin = retry
			}
			b.refused++
			b.retryMin, b.retryMax = min(b.retryMin, retry), max(b.retryMax, retry)
			latency = append(latency, s.Answered-s.Sent)
		default:
			b.errs = append(b.errs, errors.New(s.Err))
		}
	}
	b.latency = bench.NewLatency(latency)
	return b
}
