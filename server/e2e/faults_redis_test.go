package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"llamero/bench"
)

// show makes the tests that have figures to show run at full size and hold them
// against their goals; else the machine may be shared and slow, and they are held
// against bounds that only something that hangs exceeds.
var show = os.Getenv("LLAMERO_SHOW") != "" || fullSize

// What must hold while Redis is out of order.
const (
	redisWait  = 100 * time.Millisecond // the default of --redis-wait
	lateGoal   = 50 * time.Millisecond  // beyond that, over a prompt that is computed
	openGoal   = time.Second            // until nobody waits for Redis any more
	closedGoal = 2 * time.Second        // until it is asked again
	hangs      = 20 * time.Second
)

// disjoint are prompts that no other call of the test process gives, of so many
// words.
func disjoint(t *testing.T, n, words, tokens int) []bench.Request {
	t.Helper()
	prompts.mu.Lock()
	prompts.seed++
	seed := prompts.seed
	prompts.mu.Unlock()
	w, err := bench.New("disjoint", bench.Options{Seed: seed, Clients: n, Words: words, Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]bench.Request, n)
	for i, c := range w.Clients {
		out[i] = c[0]
	}
	return out
}

var prompts struct {
	mu   sync.Mutex
	seed uint64
}

// send asks and reads the answer to its end, whatever becomes of it.
func send(ctx context.Context, g *gateway, key string, r bench.Request) bench.Sample {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	target := bench.NewTarget("llamero", g.url, model)
	target.Key = key
	defer target.HTTP.CloseIdleConnections()
	return target.Do(ctx, time.Now(), r, nil)
}

// ask is send for what must be answered.
func ask(t *testing.T, g *gateway, key string, r bench.Request) bench.Sample {
	t.Helper()
	s := send(t.Context(), g, key, r)
	if s.Err != "" || len(s.Chunks) == 0 {
		t.Fatalf("status %d, %d chunks: %s", s.Status, len(s.Chunks), s.Err)
	}
	return s
}

// ttft is the time to the first token.
func ttft(s bench.Sample) time.Duration { return s.Chunks[0] - s.Start }

// pages is how many pages an answer's slot had computed at its end: the last token
// that was drawn never was.
func pages(s bench.Sample) int { return (s.Prompt + s.Tokens - 1) / pageTokens }

// pageTokens is more than what the chat template puts before every prompt, so that prompts
// of their own have no page in common.
const pageTokens = 32

// useful is how many tokens of a prompt can come from a cache: whole pages, and not
// the last token, whose logits are wanted.
func useful(s bench.Sample) int { return (s.Prompt - 1) / pageTokens * pageTokens }

// sharing are two gateways over one Redis, and one that has no cache.
type sharing struct {
	redis           *redisServer
	one, two, plain *gateway
}

func share(t *testing.T, redis *redisServer, url string, plain *gateway) *sharing {
	args := append(smallCache, "--redis", url, "--redis-wait", redisWait.String())
	return &sharing{redis: redis, one: own(t, nil, args...), two: own(t, nil, args...), plain: plain}
}

// up reports whether a gateway asks Redis.
func up(t *testing.T, g *gateway) bool {
	t.Helper()
	p, _ := scrape(t, g.url+"/metrics", "")
	return p.value("llamero_redis_up") == 1
}

// wrote has a prompt computed by the first gateway and waits until its pages are in
// Redis. Where some are dropped, as for a moment after Redis refused one, there is
// another prompt.
func (s *sharing) wrote(t *testing.T) (r bench.Request, a bench.Sample) {
	t.Helper()
	until(t, "all pages of a prompt are in Redis", func() bool {
		r = disjoint(t, 1, 300, 8)[0]
		before := s.redis.keys(t)
		a = ask(t, s.one, "", r)
		return soon(3*time.Second, func() bool { return s.redis.keys(t) >= before+pages(a) })
	})
	return r, a
}

// works looks that what the first gateway computes is found by the second. On a slow
// machine a page may come too late: then there is another prompt.
func (s *sharing) works(t *testing.T) {
	t.Helper()
	until(t, "both gateways ask Redis", func() bool { return up(t, s.one) && up(t, s.two) })
	until(t, "one gateway finds what the other has computed", func() bool {
		r, _ := s.wrote(t)
		found := ask(t, s.two, "", r)
		return found.Cached == useful(found)
	})
}

// fault is something that happens to a Redis.
type fault struct {
	name       string
	begin, end func(t *testing.T)
	opens      bool // Redis does not answer, so that nobody waits for it soon
	during     func(t *testing.T, s *sharing)
}

// outcome is what a fault came to.
type outcome struct {
	name           string
	requests       int
	differ         int             // answers that are not, byte for byte, those of a gateway without a cache
	cold, faulty   []time.Duration // times to first tokens, of the same prompts
	opened, closed time.Duration   // until the breaker was, after the first request and after the end
}

// survive has requests answered while Redis is out of order, twice: one by one,
// beside a gateway that has no cache, and then several at once.
func (s *sharing) survive(t *testing.T, f fault) *outcome {
	t.Helper()
	o := &outcome{name: f.name}
	pairs := 3
	if show {
		pairs = 100
	}
	f.begin(t)
	for i, r := range disjoint(t, pairs, 300, 8) {
		if i%2 == 0 {
			o.pair(t, ask(t, s.plain, "", r), ask(t, s.one, "", r))
		} else {
			faulty := ask(t, s.one, "", r)
			o.pair(t, ask(t, s.plain, "", r), faulty)
		}
	}
	if f.during != nil {
		f.during(t, s)
	}
	f.end(t)
	until(t, "Redis is asked after the fault", func() bool { return up(t, s.one) })

	f.begin(t)
	began := time.Now()
	var wg sync.WaitGroup
	all := disjoint(t, 4, 300, 8)
	answers := make([]bench.Sample, len(all))
	for i, r := range all {
		wg.Go(func() { answers[i] = send(t.Context(), s.one, "", r) })
	}
	if f.opens {
		until(t, "the breaker is open", func() bool { return !up(t, s.one) })
		o.opened = time.Since(began)
	}
	wg.Wait()
	for i, a := range answers {
		if a.Err != "" || a.Cached != 0 {
			t.Errorf("%s: %d tokens cached, error %q", f.name, a.Cached, a.Err)
		}
		o.compare(t, ask(t, s.plain, "", all[i]), a)
	}
	if !f.opens && !up(t, s.one) {
		t.Errorf("%s: Redis is not asked, though it answers", f.name)
	}
	ended := time.Now()
	f.end(t)
	until(t, "the breaker has closed", func() bool { return up(t, s.one) })
	o.closed = time.Since(ended)
	s.works(t)
	return o
}

// pair takes two answers to a prompt that nobody had asked before.
func (o *outcome) pair(t *testing.T, cold, faulty bench.Sample) {
	t.Helper()
	if cold.Cached != 0 || faulty.Cached != 0 {
		t.Errorf("%s: %d tokens cached, and %d without a cache", o.name, faulty.Cached, cold.Cached)
	}
	if took := ttft(faulty); took > hangs {
		t.Errorf("%s: a first token after %v", o.name, took)
	}
	o.cold, o.faulty = append(o.cold, ttft(cold)), append(o.faulty, ttft(faulty))
	o.compare(t, cold, faulty)
}

// compare notes where an answer is another one. Greedy, but perhaps computed in
// passes of another shape: DESIGN says what that means.
func (o *outcome) compare(t *testing.T, want, got bench.Sample) {
	t.Helper()
	o.requests++
	if got.Text != want.Text {
		o.differ++
		t.Logf("%s: %q where a gateway without a cache says %q", o.name, got.Text, want.Text)
	}
}

// row holds the figures against their goals, at full size, and adds them to a table
// and to the line of all faults.
func (o *outcome) row(t *testing.T, table *bench.Table, opens bool, line *faultRow) {
	cold, faulty := bench.NewLatency(o.cold), bench.NewLatency(o.faulty)
	over := faulty.P99 - cold.P99
	if show && over > redisWait+lateGoal {
		t.Errorf("%s: first tokens come %v later (p99)", o.name, over)
	}
	opened := "stays closed"
	if opens {
		opened = inMS(o.opened)
		if show && o.opened > openGoal {
			t.Errorf("%s: the breaker opened after %v", o.name, o.opened)
		}
	}
	if show && o.closed > closedGoal {
		t.Errorf("%s: the breaker closed after %v", o.name, o.closed)
	}
	table.Row(o.name, fmt.Sprint(o.requests), fmt.Sprint(o.differ), inMS(cold.P50), inMS(cold.P99),
		inMS(faulty.P50), inMS(faulty.P99), inMS(over), opened, inMS(o.closed))
	line.figure("%s: %d requests without an error, first tokens' p99 %s ms over cold, breaker open after %s ms, closed after %s", o.name, o.requests, inMS(over), opened, inMS(o.closed))
}

func inMS(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Microseconds())/1000) }

// While Redis is dead, stopped, full or slow, every request is answered as without a
// cache, hardly later, and soon not later at all; afterwards all is as before.
func TestRedisFaults(t *testing.T) {
	line := newRow(t, rowRedis, "Redis killed, stopped, out of memory, slow")
	redis := startRedis(t, "--maxmemory-policy", "noeviction")
	plain := own(t, nil, "--slots", "4", "--context", "1024", "--cache-memory", "0")
	table := bench.NewTable("fault", "requests", "differ", "cold p50 ms", "p99", "with the fault p50 ms", "p99", "p99 over cold", "open after ms", "closed after ms")
	limit := func(to string) func(*testing.T) {
		return func(t *testing.T) {
			if err := redis.ConfigSet(t.Context(), "maxmemory", to).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var there []bench.Request // what the first gateway has written before
	t.Run("one after the other", func(t *testing.T) {
		s := share(t, redis, redis.url, plain)
		s.works(t)
		for _, f := range []fault{
			{name: "killed", opens: true, begin: func(*testing.T) { redis.kill() }, end: redis.start},
			{name: "stopped", opens: true,
				begin: func(t *testing.T) { redis.signal(t, syscall.SIGSTOP) },
				end:   func(t *testing.T) { redis.signal(t, syscall.SIGCONT) }},
			{name: "out of memory", end: limit("0"),
				begin: func(t *testing.T) {
					for len(there) < 5 {
						r, _ := s.wrote(t)
						there = append(there, r)
					}
					limit("1mb")(t)
				},
				during: func(t *testing.T, s *sharing) { full(t, s, there) }},
		} {
			s.survive(t, f).row(t, table, f.opens, line)
		}
	})
	t.Run("slow", func(t *testing.T) {
		k := newLink(t, redis.addr)
		s := share(t, redis, "redis://"+k.addr+"/0", plain)
		s.works(t)
		delay := func(d time.Duration) func(*testing.T) {
			return func(*testing.T) { k.delay.Store(int64(d)) }
		}
		f := fault{name: "slow", opens: true, begin: delay(4 * redisWait), end: delay(0)}
		s.survive(t, f).row(t, table, f.opens, line)
		trickle(t, s, k)
	})
	var b strings.Builder
	table.Write(&b)
	t.Logf("Redis out of order; %v is the goal for p99 over cold\n%s", redisWait+lateGoal, &b)
}

// full looks that a Redis which refuses pages is still read from, and that the pages
// it refused are counted.
func full(t *testing.T, s *sharing, there []bench.Request) {
	t.Helper()
	p, _ := scrape(t, s.one.url+"/metrics", "")
	if n := p.value("llamero_redis_dropped_pages_total", "reason", "refused"); n == 0 {
		t.Error("a full Redis refused nothing")
	}
	for _, r := range there { // on a slow machine some may come too late
		if a := ask(t, s.two, "", r); a.Cached == useful(a) {
			return
		}
	}
	t.Errorf("nothing that was there is found in a full Redis")
}

// trickle reads over a link that carries a page or two in the time that a request
// waits: what has come is used, and nothing else.
func trickle(t *testing.T, s *sharing, k *link) {
	t.Helper()
	r, want := s.wrote(t)
	k.delay.Store(int64(5 * time.Millisecond / 2)) // 2.6 of its 8 MB in 100 ms
	got := ask(t, s.two, "", r)
	if got.Cached%pageTokens != 0 || got.Cached >= useful(got) {
		t.Errorf("%d of %d tokens cached over a slow link", got.Cached, got.Prompt)
	}
	t.Logf("over a slow link %d of %d tokens came in time", got.Cached, got.Prompt)
	if got.Text != want.Text {
		t.Logf("%q where the gateway that computed it says %q", got.Text, want.Text)
	}
}
