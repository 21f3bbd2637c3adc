package scheduler

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// The simulation runs a gateway's core, the scheduler over the fake engine with a
// remote tier, through a scenario: requests, and all that can go wrong beside them.
// Time is simulated and there is one goroutine, so a seed decides everything; the same
// scenario leaves the same trace, byte for byte.

var (
	seedFlag  = flag.Uint64("seed", 0, "the seed that TestSimulationSeed and TestMetamorphicSeed run")
	seedsFlag = flag.Uint64("seeds", 10_000, "how many seeds TestSimulation runs")
)

// TestSimulation: in every scenario each request ends exactly once, with the tokens
// that it would have had if nothing had gone wrong, or for a reason that was its own;
// nothing is held afterwards.
func TestSimulation(t *testing.T) {
	seeds := *seedsFlag
	if testing.Short() {
		seeds = min(seeds, 500)
	}
	seen := map[string]int{}
	digest := sha256.New()
	for seed := range seeds {
		s := newScenario(seed)
		got := twice(s, nil)
		if got.failure != nil {
			report(t, s, got.failure)
		}
		digest.Write(got.trace)
		for what, n := range got.seen {
			seen[what] += n
		}
	}
	// Another process has to come to the same.
	t.Logf("%d seeds, traces %x", seeds, digest.Sum(nil)[:8])
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%8d %s", seen[what], what)
	}
	if seeds < 10_000 {
		return // few seeds need not show everything
	}
	for _, what := range sights {
		if seen[what] < 50 {
			t.Errorf("%s: %d times, which proves little", what, seen[what])
		}
	}
}

// TestSimulationSeed runs one seed of TestSimulation; -v prints all that happens.
func TestSimulationSeed(t *testing.T) {
	s := newScenario(*seedFlag)
	got := twice(s, nil)
	if got.failure != nil {
		report(t, s, got.failure)
	}
	if testing.Verbose() {
		t.Logf("%s\n%s", s, got.trace)
	}
}

// report fails the test with the least of a scenario that still fails like it.
func report(t *testing.T, s scenario, f *failure) {
	t.Helper()
	least := shrink(s, like(f, nil))
	got := simulate(least, nil)
	if got.failure == nil {
		got.failure = f // only that it goes otherwise the second time
	}
	t.Fatalf("%s\nreproduce with: go test ./scheduler -run 'TestSimulationSeed$' -v -seed %d\nthe least that shows it:\n%s%s%s",
		f.text, s.Seed, least, got.trace, got.failure.text)
}

// like reports whether a scenario fails in the way of another.
func like(f *failure, b bend) func(scenario) bool {
	return func(s scenario) bool {
		got := twice(s, b).failure
		return got != nil && got.kind == f.kind
	}
}

// twice simulates a scenario and, if all is well, compares that with doing it again.
func twice(s scenario, b bend) outcome {
	got := simulate(s, b)
	if got.failure == nil {
		got.failure = compare(got.trace, simulate(s, b).trace)
	}
	return got
}

// compare says where two traces of one scenario differ.
func compare(a, b []byte) *failure {
	if bytes.Equal(a, b) {
		return nil
	}
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	i := 0
	for i < min(len(x), len(y))-1 && bytes.Equal(x[i], y[i]) {
		i++
	}
	return failed(fmt.Sprintf("the same scenario goes otherwise the second time\nline %d:\n%s\n%s", i+1, x[i], y[i]))
}

// outcome is what came of a simulation.
type outcome struct {
	trace   []byte
	seen    map[string]int // what happened, how often
	failure *failure       // nil: all was well
}

// failure is what was wrong. Failures of one kind have one cause, most likely.
type failure struct{ kind, text string }

// recorder stands for the test in a world whose failure is data: it ends the simulation.
type recorder struct{ testing.TB }

func (recorder) Helper() {}

func (recorder) Fatalf(format string, args ...any) { panic(failed(fmt.Sprintf(format, args...))) }

func (recorder) Fatal(args ...any) { panic(failed(fmt.Sprint(args...))) }

func (r recorder) Errorf(format string, args ...any) { r.Fatalf(format, args...) }

var numbers = regexp.MustCompile(`\w*\d\w*`)

// failed is the failure that a text tells of; its kind is the first line without numbers
// and addresses.
func failed(text string) *failure {
	first, _, _ := strings.Cut(text, "\n")
	return &failure{kind: numbers.ReplaceAllString(first, "#"), text: text}
}

// simulate runs a scenario to its end, with something bent if b is not nil.
func simulate(s scenario, b bend) (out outcome) {
	sim := newSimulation(s)
	if b != nil {
		b(sim)
	}
	defer func() {
		out.trace, out.seen = sim.trace.text, sim.seen
		switch r := recover().(type) {
		case nil:
		case *failure:
			out.failure = r
		default:
			out.failure = failed(fmt.Sprintf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	sim.all()
	return out
}
