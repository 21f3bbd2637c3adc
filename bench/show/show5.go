package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"llamero/bench"
)

const (
	stateLimit = 30 * time.Second // for the server to reach an expected state
	statePoll  = 2 * time.Millisecond
	freeGoal   = time.Second
)

// show5: clients vanish all at once, while the server holds requests in every
// state, and the time is taken until it holds none.
func show5(ctx context.Context, c *config) error {
	if c.clients <= c.Slots || c.Slots < 4 {
		return fmt.Errorf("--clients %d must exceed --slots %d, which must be 4 or more", c.clients, c.Slots)
	}
	s, err := startLlamero(ctx, c)
	if err != nil {
		return err
	}
	defer s.Stop()
	t := bench.NewTable("round", "decoding", "not streamed", "prefilling", "queued", "all free after ms")
	var times []float64
	for round := range c.rounds {
		v := vanishing{Served: s, config: c, seed: c.seed + uint64(round)}
		free, err := v.run(ctx)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		times = append(times, free.Seconds())
		t.Row(fmt.Sprint(round+1), fmt.Sprint(v.decoding()), fmt.Sprint(v.whole()), fmt.Sprint(v.prefilling()), fmt.Sprint(c.clients-c.Slots), ms(free))
		// The server must serve on, not only be empty.
		if err := s.Warm(ctx); err != nil {
			return err
		}
	}
	t.Write(os.Stdout)
	verdict("seconds until all slots are free", bench.NewSpread(times), freeGoal.Seconds())
	return nil
}

// vanishing is one round. Half the slots decode streams, a quarter decodes
// answers that are not streamed, a quarter prefills; all other clients wait in
// the queue. Of those that prefill or wait every second is not streamed.
type vanishing struct {
	*bench.Served
	*config
	seed uint64
}

func (v *vanishing) decoding() int   { return v.Slots / 2 }
func (v *vanishing) whole() int      { return v.Slots / 4 }
func (v *vanishing) prefilling() int { return v.Slots - v.decoding() - v.whole() }

func (v *vanishing) run(ctx context.Context) (time.Duration, error) {
	short, err := bench.New("disjoint", bench.Options{Seed: v.seed, Clients: v.decoding() + v.whole(), Words: 10, Tokens: v.tokens})
	if err != nil {
		return 0, err
	}
	long, err := bench.New("disjoint", bench.Options{Seed: v.seed + 1<<20, Clients: v.clients - len(short.Clients), Words: v.words, Tokens: v.tokens})
	if err != nil {
		return 0, err
	}
	present, vanish := context.WithCancel(ctx)
	var (
		clients  sync.WaitGroup
		ended    atomic.Int64 // answers that came to an end of their own
		decoding atomic.Int64 // streams that have had a token
		prefills atomic.Int64 // long prompts that have
	)
	defer clients.Wait()
	defer vanish()
	send := func(r bench.Request, whole bool, started *atomic.Int64) {
		r.Whole = whole
		var first sync.Once
		clients.Go(func() {
			v.Do(present, time.Now(), r, func() { first.Do(func() { started.Add(1) }) })
			if present.Err() == nil {
				ended.Add(1)
			}
		})
	}
	for _, client := range short.Clients[:v.whole()] {
		send(client[0], true, &decoding)
	}
	if err := v.until(ctx, func(h health) bool { return h.running >= v.whole() }); err != nil {
		return 0, fmt.Errorf("requests that are not streamed did not run: %w", err)
	}
	for _, client := range short.Clients[v.whole():] {
		send(client[0], false, &decoding)
	}
	if err := v.until(ctx, func(health) bool { return int(decoding.Load()) == v.decoding() }); err != nil {
		return 0, fmt.Errorf("streams did not begin: %w", err)
	}
	for i, client := range long.Clients {
		send(client[0], i%2 == 1, &prefills)
	}
	queued := v.clients - v.Slots
	if err := v.until(ctx, func(h health) bool { return h.running == v.Slots && h.waiting == queued }); err != nil {
		return 0, fmt.Errorf("%d slots and %d waiting were not reached: %w", v.Slots, queued, err)
	}
	if n, m := ended.Load(), prefills.Load(); n > 0 || m > 0 {
		return 0, fmt.Errorf("too late: %d answers had ended and %d long prompts were prefilled; raise --tokens or --words", n, m)
	}
	gone := time.Now()
	vanish()
	if err := v.until(ctx, func(h health) bool { return h.running == 0 && h.waiting == 0 }); err != nil {
		return 0, fmt.Errorf("after the clients had gone: %w", err)
	}
	return time.Since(gone), nil
}

// until polls the server's health until it is as wanted.
func (v *vanishing) until(ctx context.Context, wanted func(health) bool) error {
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	poll := time.NewTicker(statePoll)
	defer poll.Stop()
	for {
		h, err := readHealth(ctx, v.Target)
		if err != nil {
			return err
		}
		if wanted(h) {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w with %d running, %d waiting", context.Cause(ctx), h.running, h.waiting)
		}
	}
}

// health is what /healthz says the server holds.
type health struct{ running, waiting int }

func readHealth(ctx context.Context, t *bench.Target) (health, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+"/healthz", nil)
	if err != nil {
		return health{}, err
	}
	resp, err := t.HTTP.Do(req)
	if err != nil {
		return health{}, err
	}
	defer resp.Body.Close()
	var body struct{ Running, Waiting *int }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&body); err != nil {
		return health{}, fmt.Errorf("GET /healthz: %s: %w", resp.Status, err)
	}
	if body.Running == nil || body.Waiting == nil {
		return health{}, fmt.Errorf("GET /healthz: %s: no running and waiting in it", resp.Status)
	}
	return health{*body.Running, *body.Waiting}, nil
}
