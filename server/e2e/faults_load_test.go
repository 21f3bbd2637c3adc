package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"llamero/bench"
)

// What the faults that come with load share.

// normals are so many clients that ask and read as fast as they can, one request
// after another, with prompts of their own.
func normals(t *testing.T, clients, turns, words, tokens int) bench.Workload {
	t.Helper()
	w := bench.Workload{Name: "normal", Clients: make([][]bench.Request, clients)}
	for i, r := range disjoint(t, clients*turns, words, tokens) {
		w.Clients[i%clients] = append(w.Clients[i%clients], r)
	}
	return w
}

// measured runs a workload, all of which must be answered.
func measured(t *testing.T, target *bench.Target, w bench.Workload) bench.Summary {
	t.Helper()
	r := bench.Run(t.Context(), target, w)
	if errs := r.Errors(); len(errs) > 0 {
		t.Errorf("%d of %d normal requests failed: %s", len(errs), len(r.Samples), errs[0])
	}
	return r.Summary()
}

// targeted is a gateway to be measured.
func targeted(t *testing.T, g *gateway) *bench.Target {
	t.Helper()
	target := bench.NewTarget("llamero", g.url, model)
	t.Cleanup(target.HTTP.CloseIdleConnections)
	return target
}

// ms are rounds' durations in milliseconds.
func ms(of []time.Duration) []float64 {
	out := make([]float64, len(of))
	for i, d := range of {
		out[i] = float64(d) / float64(time.Millisecond)
	}
	return out
}

// compare holds rounds with a fault against rounds without, at full size, and puts
// both into a row.
func (r *faultRow) compare(t *testing.T, what string, with, without []time.Duration) {
	t.Helper()
	w, o := ms(with), ms(without)
	r.figure("%s with / without it: %s (%s and %s ms)", what, bench.Ratios(w, o), bench.NewSpread(w), bench.NewSpread(o))
	if fullSize && worse(w, o) {
		t.Errorf("%s is worse with it beyond the spread: %v and %v ms", what, w, o)
	}
}

// settled waits until nothing runs and nothing waits.
func settled(t *testing.T, g *gateway) page {
	t.Helper()
	var p page
	if !soon(requestTimeout, func() bool {
		p, _ = scrape(t, g.url+"/metrics", "")
		return p.value("vllm:num_requests_running") == 0 && p.value("vllm:num_requests_waiting") == 0
	}) {
		t.Fatalf("%v still run, %v wait", p.value("vllm:num_requests_running"), p.value("vllm:num_requests_waiting"))
	}
	return p
}

// live is what the gateway's own memory holds: heap and stacks, the least of several
// looks, since the collector runs in between. Each look makes a little garbage.
func live(t *testing.T, g *gateway) float64 {
	t.Helper()
	var all []float64
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p, _ := scrape(t, g.url+"/metrics", "")
		all = append(all, p.value("go_memstats_heap_alloc_bytes")+p.value("go_memstats_stack_inuse_bytes"))
	}
	return slices.Min(all)
}

// peak is the most memory that the gateway's process has held, in bytes.
func peak(t *testing.T, g *gateway) float64 {
	t.Helper()
	n, err := memoryOf(g, "VmHWM:")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// resident is the memory that the gateway's process holds, in bytes.
func resident(g *gateway) (float64, error) { return memoryOf(g, "VmRSS:") }

// memoryOf reads a line of a process's status.
func memoryOf(g *gateway, name string) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(g.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), name)
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return kib * 1024, nil
}
