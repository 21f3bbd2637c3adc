package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// several serves with two engines.
var several = append(slices.Clone(faulty), "--workers", "2")

// engines waits until a gateway has so many engine processes.
func engines(t *testing.T, g *gateway, n int) []int {
	t.Helper()
	for end := time.Now().Add(stopTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if pids := children(t, g, "engine"); len(pids) == n {
			return pids
		}
	}
	t.Fatalf("there are never %d engines\n%s", n, g.log)
	return nil
}

// asked counts the requests that each of two engines was sent.
func asked(t *testing.T, g *gateway) (first, second float64) {
	t.Helper()
	p, _ := scrape(t, g.url+"/metrics", "")
	return p.value("llamero_engine_requests_total", "engine", "0"), p.value("llamero_engine_requests_total", "engine", "1")
}

// TestWorkers: two engines answer as one does, share the work, and what one of them has
// computed the other begins with.
func TestWorkers(t *testing.T) {
	plain := own(t, nil, append(smallCache, "--threads", "1")...)
	g := own(t, nil, append(smallCache, "--threads", "1", "--workers", "2")...)
	engines(t, g, 2)
	want := join(plain, 8, answer)
	want.whole(t, answer, nil)
	got := join(g, 8, answer)
	t.Logf("%d of 8 answers are byte-identical to one engine's", got.whole(t, answer, want))
	if one, two := asked(t, g); one < 2 || two < 2 {
		t.Errorf("of 8 requests one engine had %v, the other %v", one, two)
	}

	_, _, wantText := cached(t, plain, "How many items are there?")
	n, prompt, text := cached(t, g, "How many items are there?")
	if n != 0 {
		t.Errorf("%d of %d tokens cached of nothing", n, prompt)
	}
	if text != wantText {
		t.Logf("%q where one engine says %q", text, wantText)
	}
	// With the first engine busy, the next one has the same question.
	before, other := asked(t, g)
	busy := join(g, 1, 200)
	busy.reach(t, 1)
	n, prompt, again := cached(t, g, "How many items are there?")
	if n < prompt*8/10 {
		t.Errorf("%d of %d tokens cached", n, prompt)
	}
	if again != text {
		t.Logf("%q where the other engine said %q", again, text)
	}
	busy.whole(t, 200, nil)
	if one, two := asked(t, g); one == before || two == other {
		t.Errorf("the engines had %v and %v requests, then %v and %v: one of them nothing", before, other, one, two)
	}
}

// TestWorkerKilled: kill -9 of one of two engines costs its streams a pause and the
// others' nothing; the gateway is ready all the time.
func TestWorkerKilled(t *testing.T) {
	const streams = 16
	g := own(t, nil, several...)
	calm := join(g, streams, answer)
	calm.whole(t, answer, nil)
	r := rand.New(rand.NewPCG(8, 1))
	for round := range 3 {
		stop, unready := make(chan struct{}), make(chan string, 1)
		go func() { unready <- readiness(g, stop) }()
		c := join(g, streams, answer)
		c.reach(t, 1+r.Int64N(streams*answer/2))
		old := engines(t, g, 2)
		if err := syscall.Kill(old[round%2], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		took := c.moving(t, killed)
		same := c.whole(t, answer, calm)
		t.Logf("round %d: all streams moved again after %v; %d of %d answers are byte-identical", round, took.Round(time.Millisecond), same, streams)
		if status, body := g.post(t, "/v1/completions", `{"model":"`+model+`","prompt":"Hello","max_tokens":2}`); status != http.StatusOK {
			t.Errorf("meanwhile: %d %s", status, body)
		}
		if now := engines(t, g, 2); !slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(old, pid) }) {
			t.Errorf("engines %v as before", now)
		}
		close(stop)
		if how := <-unready; how != "" {
			t.Errorf("readiness: %s", how)
		}
	}
}

// readiness asks until stop, and says what was not 200.
func readiness(g *gateway, stop <-chan struct{}) string {
	for {
		resp, err := http.Get(g.url + "/readyz")
		if err != nil {
			return err.Error()
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		select {
		case <-stop:
			return ""
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestNoWorkerIsReady: without any engine the gateway is not ready, and says so.
func TestNoWorkerIsReady(t *testing.T) {
	g := own(t, nil, several...)
	for _, pid := range engines(t, g, 2) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // a pause that cannot be missed
			t.Fatal(err)
		}
	}
	g.until(t, http.StatusServiceUnavailable)
	g.until(t, http.StatusOK)
	join(g, 4, 8).whole(t, 8, nil)
}

// TestWorkerCPUs: each engine keeps to its CPUs.
func TestWorkerCPUs(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.NumCPU() < 2 {
		t.Skip("two CPUs of a Linux machine are needed")
	}
	cpus := allowed(t, os.Getpid())
	if len(cpus) < 2 {
		t.Skip("two CPUs are needed")
	}
	g := own(t, nil, append(slices.Clone(several), "--cpus", cpus[0]+";"+cpus[1], "--devices", "0;1")...)
	var got []string
	for _, pid := range engines(t, g, 2) {
		got = append(got, strings.Join(allowed(t, pid), ","))
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(cpus[:2])); !slices.Equal(got, want) {
		t.Errorf("the engines keep to %v, want %v", got, want)
	}
	join(g, 4, 8).whole(t, 8, nil)
}

// allowed are the CPUs that a process may run on.
func allowed(t *testing.T, pid int) (cpus []string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Cpus_allowed_list:\t")
	list, _, _ := strings.Cut(rest, "\n")
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n != 2 {
			t.Fatalf("CPUs %q", list)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, fmt.Sprint(cpu))
		}
	}
	return cpus
}
