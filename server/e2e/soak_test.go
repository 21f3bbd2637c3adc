package e2e

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	soakSlots   = 8
	soakClients = 12
	// steady is how long it must take for memory to be held to be flat: before, caches
	// fill and the runtime finds its size.
	steady  = 5 * time.Minute
	maxGrow = 1 << 20 // bytes an hour, beyond what chance explains
	// soakPage are the tokens of a page. A gateway remembers 16,384 pages that Redis has:
	// with pages of 32 tokens that takes twenty minutes, in which it looks like a leak.
	soakPage = 4
)

// soakTime is how long the soak takes: a moment, unless LLAMERO_SOAK says otherwise.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	said := os.Getenv("LLAMERO_SOAK")
	if said == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(said)
	if err != nil || d < time.Second || d > 24*time.Hour {
		t.Fatalf("LLAMERO_SOAK=%s: want from 1s to 24h, such as 10m", said)
	}
	return d
}

// Random chats of several tenants over memory for a few prompts, with a Redis behind
// it that forgets: clients leave, answers end early, prompts begin alike. At the end
// nothing is left over: no slot, no page, no goroutine, no file, no memory.
func TestSoak(t *testing.T) {
	length := soakTime(t)
	row := newRow(t, rowSoak, fmt.Sprintf("%v of random chats over a small prefix cache, with cancels and early ends", length))
	redis := startRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	keys := []string{"sesame", "barley", "millet"}
	// Garbage that has not been collected would hide what is kept: a quarter of what is in
	// use is the most of it.
	g := own(t, []string{"LLAMERO_API_KEYS=alice:sesame,bob:barley,carol:millet", "GOGC=25"}, "--slots", fmt.Sprint(soakSlots),
		"--context", "1024", "--cache-memory", "16MiB", "--page-tokens", fmt.Sprint(soakPage), "--redis", redis.url)
	ask(t, g, keys[0], disjoint(t, 1, 100, 8)[0]) // what is made once is there
	s := &soak{g: g, key: keys[0], began: time.Now()}
	before := s.look(t)

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	systems, err := texts(1<<40, 4, 200)
	if err != nil {
		t.Fatal(err)
	}
	words, err := texts(1<<41, 300, 40)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: soakClients}}
	done := tally{of: map[string]int{}}
	var wg sync.WaitGroup
	failed := make(chan error, soakClients)
	for i := range soakClients {
		k := newTalker(g, client, uint64(i), keys[i%len(keys)], systems, words, &done)
		wg.Go(func() {
			if err := k.run(ctx); err != nil {
				failed <- err
			}
		})
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	s.watch(t, all, max(length/600, 100*time.Millisecond))
	cancel()
	<-all
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	client.CloseIdleConnections()
	t.Logf("%v: %v", length, done.of)
	for _, what := range []string{"answered", "left", "two answers", "stopped early", "refused"} {
		if done.of[what] == 0 && (length >= steady || what == "answered") {
			t.Errorf("never %s", what)
		}
	}
	s.rest(t, before)
	resident, heap := s.flat(t, length)
	row.figure("%d conversations' turns answered, %d left", done.of["answered"], done.of["left"])
	if length >= steady {
		row.figure("in the second half of it memory grew by %s MiB an hour, the heap that is in use by %s", resident, heap)
	}
	redis.kill()
	s.whole(t)
	if strings.Contains(g.log.String(), `"level":"ERROR"`) {
		t.Errorf("the log has errors:\n%s", g.log)
	}
}

// soak watches a gateway.
type soak struct {
	g     *gateway
	key   string
	began time.Time
	held  []memoryAt
}

// memoryAt is what the process took at a time, in bytes.
type memoryAt struct {
	at       time.Duration
	resident float64
	heap     float64 // of it the runtime's, garbage included
}

// look reads the metrics, which add up at any time.
func (s *soak) look(t *testing.T) page {
	t.Helper()
	p, _ := scrape(t, s.g.url+"/metrics", s.key)
	s.held = append(s.held, memoryAt{time.Since(s.began), p.value("process_resident_memory_bytes"), p.value("go_memstats_heap_alloc_bytes")})
	if n := p.value("llamero_slots"); n != soakSlots {
		t.Errorf("%v slots in all states", n)
	}
	if n := p.value("llamero_cache_pages"); n != s.total(p) || n == 0 {
		t.Errorf("%v pages used and free, of %v", n, s.total(p))
	}
	if n := p.value("llamero_step_failures_total"); n != 0 {
		t.Errorf("%v steps failed", n)
	}
	return p
}

// total is how many pages the memory has.
func (s *soak) total(p page) float64 {
	for _, m := range p["vllm:cache_config_info"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "num_gpu_blocks" {
				var n float64
				_, _ = fmt.Sscan(l.GetValue(), &n)
				return n
			}
		}
	}
	return 0
}

// watch looks every so often until all clients are done, or something is wrong.
func (s *soak) watch(t *testing.T, done <-chan struct{}, every time.Duration) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !t.Failed() {
		select {
		case <-tick.C:
			s.look(t)
		case <-done:
			return
		}
	}
}

// rest waits until the gateway holds no more than before, and returns what it holds
// then. Connections, to Redis and from clients that went, take a moment to go.
func (s *soak) rest(t *testing.T, before page) (p page) {
	t.Helper()
	var left []string
	if !soon(patience, func() bool {
		left = nil
		p = s.look(t)
		for _, x := range []struct {
			name   string
			labels []string
			most   float64
		}{
			{"vllm:num_requests_running", nil, 0},
			{"vllm:num_requests_waiting", nil, 0},
			{"llamero_mailbox_tokens", nil, 0},
			{"llamero_slots", []string{"state", "decode"}, 0},
			{"llamero_slots", []string{"state", "prefill"}, 0},
			{"llamero_redis_queued_pages", nil, 0},
			{"go_goroutines", nil, before.value("go_goroutines") + 5},
			{"process_open_fds", nil, before.value("process_open_fds") + 10},
		} {
			if n := p.value(x.name, x.labels...); n > x.most {
				left = append(left, fmt.Sprintf("%s%v is %v, not %v at most", x.name, x.labels, n, x.most))
			}
		}
		return len(left) == 0
	}) {
		t.Error(strings.Join(left, "\n"))
	}
	return p
}

// whole looks that every page of the memory can be used, so that none is kept for
// ever: a prompt that is longer than the memory fills it. Redis must be gone.
func (s *soak) whole(t *testing.T) {
	t.Helper()
	r := disjoint(t, 1, 800, 1)[0]
	first, again := ask(t, s.g, s.key, r), ask(t, s.g, s.key, r)
	p := s.look(t)
	want := min(int(s.total(p)), (again.Prompt-1)/soakPage) * soakPage
	const template = 24 // tokens of whole pages that all prompts begin with
	if first.Cached > template || again.Cached != want {
		t.Errorf("%d, then %d tokens cached of %d; the memory has %v pages and must have had room for %d tokens",
			first.Cached, again.Cached, again.Prompt, s.total(p), want)
	}
	if p.value("llamero_cache_evictions_total") == 0 {
		t.Error("the memory was never full")
	}
}

// blocks is how many parts the time is cut into whose memory is looked at: looks that
// follow one another say the same, and in each part the collector has run.
const blocks = 20

// flat holds what memory grew by, in the second half of the time, against what it may. The
// heap is taken at its least in each part, where its garbage has just been collected.
func (s *soak) flat(t *testing.T, length time.Duration) (resident, heap trend) {
	t.Helper()
	parts := make([][]memoryAt, blocks)
	for _, m := range s.held {
		if m.at >= length/2 && m.at < length {
			i := int((m.at - length/2) * blocks / (length - length/2))
			parts[i] = append(parts[i], m)
		}
	}
	var at, all, least []float64
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		var sum, when float64
		low := p[0].heap
		for _, m := range p {
			sum, when, low = sum+m.resident, when+m.at.Hours(), min(low, m.heap)
		}
		n := float64(len(p))
		at, all, least = append(at, when/n), append(all, sum/n), append(least, low)
	}
	if len(at) < 4 {
		t.Fatalf("memory was looked at in %d of %d parts of the time", len(at), blocks)
	}
	resident, heap = slope(at, all), slope(at, least)
	t.Logf("memory: %.1f MiB at first, %.1f MiB at the end; by parts in MiB: resident %.1f, heap %.1f",
		s.held[0].resident/(1<<20), s.held[len(s.held)-1].resident/(1<<20), inMiB(all), inMiB(least))
	if length >= steady && resident.hourly-2*resident.err > maxGrow {
		t.Errorf("memory grows by %s MiB an hour", resident)
	}
	return resident, heap
}

func inMiB(bytes []float64) []float64 {
	out := make([]float64, len(bytes))
	for i, b := range bytes {
		out[i] = b / (1 << 20)
	}
	return out
}

// trend is what grows by so many bytes an hour, give or take a standard error.
type trend struct{ hourly, err float64 }

func (x trend) String() string {
	return fmt.Sprintf("%.2f ± %.2f", x.hourly/(1<<20), x.err/(1<<20))
}

// slope is the trend of bytes at hours, by least squares.
func slope(hours, bytes []float64) trend {
	n := float64(len(hours))
	if n < 3 {
		return trend{math.NaN(), math.NaN()}
	}
	var x, y, xx, xy float64
	for i := range hours {
		x, y = x+hours[i]/n, y+bytes[i]/n
	}
	for i := range hours {
		xx += (hours[i] - x) * (hours[i] - x)
		xy += (hours[i] - x) * (bytes[i] - y)
	}
	by := xy / xx
	var left float64
	for i := range hours {
		d := bytes[i] - y - by*(hours[i]-x)
		left += d * d
	}
	return trend{by, math.Sqrt(left / (n - 2) / xx)}
}

func TestSlope(t *testing.T) {
	var hours, line, saw []float64
	for i := range 20 {
		h := float64(i) / 20
		hours, line, saw = append(hours, h), append(line, 5+3*h), append(saw, float64(i%2))
	}
	if x := slope(hours, line); math.Abs(x.hourly-3) > 1e-9 || x.err > 1e-9 {
		t.Errorf("a line of 3 an hour grows by %v ± %v", x.hourly, x.err)
	}
	if x := slope(hours, saw); math.Abs(x.hourly) > 2*x.err || x.err == 0 {
		t.Errorf("a saw grows by %v ± %v", x.hourly, x.err)
	}
	if x := slope(hours[:2], line); !math.IsNaN(x.hourly) {
		t.Error("two points have a trend")
	}
}
