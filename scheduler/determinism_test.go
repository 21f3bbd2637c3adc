package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"llamero/engine"
)

// history runs a random scenario, with faults, cancels and tenants, and returns
// every plan and event that came of it.
func history(t *testing.T, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 6))
	a := randomAxes(r)
	w := newWorld(t, Config{Limits: a.limits(), TargetITL: a.target})
	w.f.EOG, w.f.EOGEvery = 7, 30
	var b strings.Builder
	w.onPlan = func(p engine.Plan) { fmt.Fprintf(&b, "%#v\n", p) }
	w.onEvents = func(e []Event) { fmt.Fprintf(&b, "%#v\n", e) }
	w.f.Fail = func(step uint64, pass int) error {
		if step%17 == 5 && pass == 0 {
			return errBroken
		}
		return nil
	}
	for i := range 40 {
		w.add(Request{
			ID: ID(i + 1), Tenant: fmt.Sprint(r.IntN(5)), Priority: r.IntN(2), Prompt: prompt(seed+uint64(i), 1+r.IntN(a.slotTokens-2)),
			MaxTokens: 1 + r.IntN(30), Choices: 1 + r.IntN(3), Stop: []engine.Token{7}, PromptScores: r.IntN(5) == 0,
			Deadline: Tick(r.IntN(2) * r.IntN(3e9)), Sampling: engine.Sampling{Temperature: 1, Seed: uint64(i)},
		})
		for range r.IntN(6) {
			w.step()
		}
		if r.IntN(5) == 0 {
			w.take(w.s.Cancel(ID(1+r.IntN(i+1)), w.now))
		}
	}
	w.run()
	return b.String()
}

var errBroken = errors.New("broken") // printed by its address

// TestDeterminism: the same inputs give the same plans and events, byte for byte.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(25) {
		first := history(t, seed)
		for range 2 {
			if again := history(t, seed); again != first {
				a, b := strings.Split(first, "\n"), strings.Split(again, "\n")
				for i := range min(len(a), len(b)) {
					if a[i] != b[i] {
						t.Fatalf("seed %d: line %d differs:\n%s\n%s", seed, i, a[i], b[i])
					}
				}
				t.Fatalf("seed %d: %d lines, then %d", seed, len(a), len(b))
			}
		}
		if seed > 0 && first == history(t, 0) {
			t.Fatal("two seeds gave the same history: this test compares nothing")
		}
	}
}
