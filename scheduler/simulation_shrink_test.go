package scheduler

import (
	"slices"
	"testing"
)

// mostTries bounds how long a scenario is cut down.
const mostTries = 3000

// shrink cuts a scenario down for as long as it fails: it leaves out acts, ever fewer
// at once (ddmin, Zeller and Hildebrandt 2002), and then makes what is left simpler,
// until nothing more can go.
func shrink(s scenario, fails func(scenario) bool) scenario {
	tries := mostTries
	try := func(c scenario) bool {
		if tries == 0 {
			return false
		}
		tries--
		if !fails(c) {
			return false
		}
		s = c
		return true
	}
	for progress := true; progress && tries > 0; {
		progress = false
		for size := len(s.Acts); size > 0; size /= 2 {
			for at := 0; at < len(s.Acts); {
				c := s
				c.Acts = slices.Delete(slices.Clone(s.Acts), at, min(at+size, len(s.Acts)))
				if try(c) {
					progress = true
				} else {
					at += size
				}
			}
		}
		for i := range s.Acts {
			for _, simplify := range simplerActs {
				for { // what halves, halves again
					c := s
					c.Acts = slices.Clone(s.Acts)
					if simplify(&c.Acts[i]); c.Acts[i] == s.Acts[i] || !try(c) {
						break
					}
					progress = true
				}
			}
		}
		for _, simplify := range simplerSetups {
			for {
				c := s
				if simplify(&c.Machine); c.Machine == s.Machine || !try(c) {
					break
				}
				progress = true
			}
		}
	}
	return s
}

// simplerActs make an act simpler, or leave it as it is.
var simplerActs = []func(*act){
	func(a *act) { a.Ask.After = 0 },
	func(a *act) { a.Ask.Shared /= 2 },
	func(a *act) { a.Ask.Own = max(1, a.Ask.Own/2) },
	func(a *act) { a.Ask.Answer = halved(a.Ask.Answer) },
	func(a *act) { a.Ask.Answer = less(a.Ask.Answer) },
	func(a *act) { a.Ask.Choices = less(a.Ask.Choices) },
	func(a *act) { a.Ask.Sampled = false },
	func(a *act) { a.Ask.Scores = false },
	func(a *act) { a.Ask.Unpaged = false },
	func(a *act) { a.Ask.Again = false },
	func(a *act) { a.Ask.Tenant = 0 },
	func(a *act) { a.Ask.Priority = 0 },
	func(a *act) { a.Ask.Text = 0 },
	func(a *act) { a.Ask.Patience = 0 },
	func(a *act) { a.Ask.Deadly = 0 },
	func(a *act) { a.Ask.Fragile = false },
	func(a *act) { a.Ask.Deadly = halved(a.Ask.Deadly) },
	func(a *act) { a.Ask.Lag /= 2 },
	func(a *act) { a.Ask.Most /= 2 },
	func(a *act) { a.Fail.Mute = false },
	func(a *act) { a.Fail.Away = 0 },
	func(a *act) { a.Fail.N = 0 },
	func(a *act) { a.Turn /= 2 },
	func(a *act) { a.Turn = max(0, a.Turn-1) },
}

// simplerSetups make a setup simpler, or leave it as it is.
var simplerSetups = []func(*setup){
	func(m *setup) { m.remote, m.writeLag, m.writeRoom = false, 0, 0 },
	func(m *setup) { m.pages, m.remote, m.writeLag, m.writeRoom = 0, false, 0, 0 },
	func(m *setup) { m.pages = halved(m.pages) },
	func(m *setup) { m.writeLag, m.writeRoom = 0, 0 },
	func(m *setup) { m.slots = less(m.slots) },
	func(m *setup) { m.calibrated = false },
	func(m *setup) { m.unsteady = false },
	func(m *setup) { m.guess = 0 },
	func(m *setup) { m.draft = 0 },
	func(m *setup) { m.echo = 0 },
	func(m *setup) { m.trims = true },
	func(m *setup) { m.eogEvery = 0 },
	func(m *setup) { m.queue = 16 },
}

// halved and less make a count smaller, and not 0, which would mean something else.
func halved(n int) int {
	if n > 1 {
		return n / 2
	}
	return n
}

func less(n int) int {
	if n > 1 {
		return n - 1
	}
	return n
}

// TestShrink: of a scenario that fails for a few of its acts and some of its slots those
// are left.
func TestShrink(t *testing.T) {
	needed := []int{1003, 1017, 1039}
	for seed := range uint64(20) {
		s := newScenario(seed)
		for i := range 40 {
			s.Acts = append(s.Acts, act{Turn: 100 + i, Kind: waits, N: 1000 + i})
		}
		slots := min(2, s.Machine.slots)
		tries := 0
		least := shrink(s, func(c scenario) bool {
			tries++
			for _, n := range needed {
				if !slices.ContainsFunc(c.Acts, func(a act) bool { return a.Kind == waits && a.N == n }) {
					return false
				}
			}
			return c.Machine.slots >= slots
		})
		if len(least.Acts) != len(needed) || least.Machine.pages != 0 || least.Machine.slots != slots || tries > mostTries {
			t.Errorf("seed %d: after %d tries: %s", seed, tries, least)
		}
	}
}
