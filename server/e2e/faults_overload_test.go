package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"llamero/bench"
)

// Prompts and answers of the tests under load.
const loadWords = 32

var loadTokens = sized(16, 64)

// goodput are the tokens a second of a run's whole answers, of those that came from the
// first answer's end after one time to the last one's before another: streams that began
// together end together, so that any other moment would count the prompts of one such wave
// without its tokens, or the tokens without. What was guessed right comes with its
// neighbours in one chunk, more often in some texts than in others: so chunks count for as
// many tokens as an answer's have.
func goodput(r bench.Result, from, to time.Duration) float64 {
	first, last := to, from
	for _, s := range r.Samples {
		if s.Err == "" && s.End >= from && s.End <= to {
			first, last = min(first, s.End), max(last, s.End)
		}
	}
	n := 0.0
	for _, s := range r.Samples {
		if s.Err == "" && len(s.Chunks) > 0 {
			n += float64(s.ChunksBy(last)-s.ChunksBy(first)) * float64(s.Tokens) / float64(len(s.Chunks))
		}
	}
	return n / (last - first).Seconds()
}

// closedLoop is what the gateway gives so many clients that ask again when they are
// answered: its peak, in tokens a second. The clients' beginning and end are left out.
func closedLoop(t *testing.T, target *bench.Target, clients, turns int) float64 {
	t.Helper()
	r := bench.Run(t.Context(), target, normals(t, clients, turns, loadWords, loadTokens))
	if errs := r.Errors(); len(errs) > 0 {
		t.Fatalf("%d requests failed: %s", len(errs), errs[0])
	}
	first := r.Wall // the first client to be done
	last := map[int]time.Duration{}
	for _, s := range r.Samples {
		last[s.Client] = max(last[s.Client], s.End)
	}
	for _, at := range last {
		first = min(first, at)
	}
	return goodput(r, first/10, first)
}

// openLoop is what it gives of requests that come whether or not others are answered.
// The time in which the queue fills is left out, and what follows the last arrival.
func openLoop(t *testing.T, target *bench.Target, rate float64, length time.Duration, seed uint64) (good float64, r bench.Result) {
	t.Helper()
	w, err := bench.New("poisson", bench.Options{Seed: seed, Clients: min(int(rate*length.Seconds()), bench.MaxClients), Words: loadWords, Tokens: loadTokens, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	r = bench.Run(t.Context(), target, w)
	last := r.Samples[len(r.Samples)-1].Start
	return goodput(r, last/10, last), r
}

// TestOverload: ten times what the gateway can do, without waiting for answers. The
// surplus is turned away at once, with when to come back; the others get what a
// gateway gives that is just busy; memory stays flat.
func TestOverload(t *testing.T) {
	const (
		times      = 10
		refuseGoal = 10 * time.Millisecond
		goodGoal   = 0.95
		growGoal   = 16 << 20
	)
	length, rounds := time.Duration(sized(4, 60))*time.Second, sized(1, 7)
	row := newRow(t, rowOverload, fmt.Sprintf("%d × capacity, open loop, %v", times, length))
	slots := sized(4, 16)
	g := burdened(t, nil, "--slots", fmt.Sprint(slots), "--context", "512", "--queue", fmt.Sprint(sized(4, 32)), "--cache-memory", "64MiB")
	target := targeted(t, g)
	measured(t, target, normals(t, slots, 1, loadWords, loadTokens))
	var rate float64 // requests a second, ten times what the first closed loop got
	var closed, open, held []float64
	var refused []time.Duration
	var grown float64
	answered := 0
	peak := func() {
		closed = append(closed, closedLoop(t, target, slots+slots/2, sized(2, 12)))
		settled(t, g)
		rate = min(times*closed[0]/float64(loadTokens), bench.MaxRate)
	}
	flood := func() {
		memory, stop := watchMemory(t, g)
		good, r := openLoop(t, target, rate, length, 66+uint64(len(open)))
		stop()
		settled(t, g)
		first, more := memory()
		held, grown = append(held, first), max(grown, more)
		open = append(open, good)
		ok, late := surplus(t, r)
		answered += ok
		refused = append(refused, late...)
	}
	for round := range rounds {
		turns := []func(){peak, flood}
		turns[round%2]()
		turns[1-round%2]()
	}
	late := bench.NewLatency(refused)
	share := bench.Ratios(open, closed)
	row.figure("%.0f requests/s for %v, %d times, where it can do %.1f: %d answered, %d refused", rate, length, rounds, rate/times, answered, len(refused))
	took, beyond := ms([]time.Duration{late.P50, late.P99, late.Max}), 0
	for _, d := range refused {
		if d > refuseGoal {
			beyond++
		}
	}
	row.figure("refused within %.1f ms (median), %.1f ms (p99), %.1f ms at most, %d of them in more than %v", took[0], took[1], took[2], beyond, refuseGoal)
	row.figure("goodput %s of the peak (%s and %s tok/s)", share, bench.NewSpread(open), bench.NewSpread(closed))
	row.figure("memory %.0f MiB, grown by %.1f MiB at most in a round", held[0]/(1<<20), grown/(1<<20))
	if !fullSize {
		return
	}
	if late.P99 > refuseGoal {
		t.Errorf("refused within %v (p99)", late.P99)
	}
	if share.Median < goodGoal {
		t.Errorf("goodput is %s of the peak", share)
	}
	if grown > growGoal {
		t.Errorf("memory grew by %.1f MiB", grown/(1<<20))
	}
}

// surplus looks at those that were turned away, and returns after how long they were.
func surplus(t *testing.T, r bench.Result) (answered int, refused []time.Duration) {
	t.Helper()
	for _, s := range r.Samples {
		if s.Err == "" {
			answered++
			continue
		}
		seconds, err := strconv.Atoi(s.Retry)
		if s.Status != 429 && s.Status != 503 || err != nil || seconds < 1 || seconds > 8 {
			t.Fatalf("status %d, Retry-After %q: %s", s.Status, s.Retry, s.Err)
		}
		refused = append(refused, s.Answered-s.Sent)
	}
	if len(refused) < len(r.Samples)/2 || answered == 0 {
		t.Errorf("%d refused and %d answered of %d", len(refused), answered, len(r.Samples))
	}
	return answered, refused
}

// watchMemory looks at a gateway's memory until it is stopped. What it returns says how
// much there was after a sixth of the looks, when queues and buffers have filled, and
// how much more there was at most after that.
func watchMemory(t *testing.T, g *gateway) (result func() (first, grown float64), stop func()) {
	t.Helper()
	var rss []float64
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n, err := resident(g); err == nil {
					rss = append(rss, n)
				}
			case <-end:
				return
			}
		}
	}()
	stop = func() { close(end); <-done }
	result = func() (first, grown float64) {
		if len(rss) < 6 {
			t.Fatalf("memory was looked at %d times", len(rss))
		}
		later := rss[len(rss)/6:]
		for _, n := range later {
			grown = max(grown, n-later[0])
		}
		return later[0], grown
	}
	return result, stop
}
