package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/engine"
)

const routedPageTokens = 16

// route is what a router is told of a prompt of which so many pages are in host memory.
func route(tokens []engine.Token, answers, known int) *Route {
	return &Route{Answers: answers, Prompt: len(tokens), Page: routedPageTokens, Known: known,
		Chain: cache.Chain(cache.Root("test"), nil, tokens, routedPageTokens)}
}

func allUp(int) bool { return true }

func TestRouter(t *testing.T) {
	system := prompt(1, 320)
	alike := func(i int) *Route { return route(join(system, prompt(uint64(100+i), 20)), 1, 0) }
	other := func(i int) *Route { return route(prompt(uint64(200+i), 100), 1, 0) }
	t.Run("what is alike stays together, while there is room", func(t *testing.T) {
		r := NewRouter(3, 8)
		var got []int
		for i := range 10 {
			got = append(got, r.Pick(alike(i), allUp))
		}
		// Then the next engine's first one leads there.
		if want := []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("engines %v, want %v", got, want)
		}
	})
	t.Run("what has nothing in common is spread", func(t *testing.T) {
		r := NewRouter(3, 8)
		var got []int
		for i := range 6 {
			got = append(got, r.Pick(other(i), allUp))
		}
		if want := []int{0, 1, 2, 0, 1, 2}; !slices.Equal(got, want) {
			t.Errorf("engines %v, want %v", got, want)
		}
	})
	t.Run("what host pages hold is alike everywhere", func(t *testing.T) {
		r := NewRouter(2, 8)
		var got []int
		for i := range 4 {
			q := alike(i)
			q.Known = len(system) / routedPageTokens
			got = append(got, r.Pick(q, allUp))
		}
		if want := []int{0, 1, 0, 1}; !slices.Equal(got, want) {
			t.Errorf("engines %v, want %v", got, want)
		}
	})
	t.Run("a page in common is worth no crowd", func(t *testing.T) {
		r := NewRouter(2, 8)
		short := func(i int) *Route { return route(join(prompt(1, 16), prompt(uint64(100+i), 50)), 1, 0) }
		var got []int
		for i := range 3 {
			got = append(got, r.Pick(short(i), allUp))
		}
		// At one answer more the page's tokens are just paid; the less busy one has it.
		if want := []int{0, 1, 0}; !slices.Equal(got, want) {
			t.Errorf("engines %v, want %v", got, want)
		}
	})
	t.Run("who is down gets nothing", func(t *testing.T) {
		r := NewRouter(2, 2)
		if got := r.Pick(alike(0), allUp); got != 0 {
			t.Fatalf("engine %d", got)
		}
		up := func(i int) bool { return i == 1 }
		for i := range 4 { // room or not
			if got := r.Pick(alike(i), up); got != 1 {
				t.Errorf("engine %d", got)
			}
		}
		if got := r.Pick(alike(5), func(int) bool { return false }); got != 0 {
			t.Errorf("with all down: engine %d, want that with room", got)
		}
	})
	t.Run("what has ended weighs nothing", func(t *testing.T) {
		r := NewRouter(2, 2)
		two := route(join(system, prompt(7, 20)), 2, 0)
		if got := r.Pick(two, allUp); got != 0 {
			t.Fatalf("engine %d", got)
		}
		if got := r.Pick(alike(1), allUp); got != 1 {
			t.Errorf("engine %d has room, not 1", got)
		}
		r.Ended(0, 1)
		r.Ended(0, 1)
		r.Left(0, two)
		if got := r.Pick(alike(2), allUp); got != 1 {
			t.Errorf("engine %d, want that of the other one alike", got)
		}
		r.Ended(1, 2)
		r.Left(1, alike(1))
		r.Left(1, alike(2))
		if len(r.held) != 0 {
			t.Errorf("%d pages are held by nobody", len(r.held))
		}
	})
}

// dumbRouter keeps every request and counts anew each time.
type dumbRouter struct {
	engines, slots int
	live           []routed
}

type routed struct {
	engine, answers int
	route           *Route
	tokens          []engine.Token
}

func (d *dumbRouter) pick(q *Route, tokens []engine.Token, up func(int) bool) int {
	var loads, costs []int
	for i := range d.engines {
		load, most := 0, q.Known
		for _, l := range d.live {
			if l.engine != i {
				continue
			}
			load += l.answers
			n := 0
			for (n+1)*q.Page <= min(len(tokens), len(l.tokens)) && slices.Equal(tokens[n*q.Page:(n+1)*q.Page], l.tokens[n*q.Page:(n+1)*q.Page]) {
				n++
			}
			most = max(most, n)
		}
		loads = append(loads, load)
		costs = append(costs, len(tokens)-q.Page*most+answerPrice*load)
	}
	var all []int
	for i := range d.engines {
		all = append(all, i)
	}
	only := func(keep func(int) bool) {
		if some := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return !keep(i) }); len(some) > 0 {
			all = some
		}
	}
	only(up)
	only(func(i int) bool { return loads[i]+q.Answers <= d.slots })
	least := func(of []int) {
		best := of[all[0]]
		for _, i := range all {
			best = min(best, of[i])
		}
		only(func(i int) bool { return of[i] == best })
	}
	least(costs)
	least(loads)
	return all[0]
}

// FuzzRouter compares the router with the dumb one, request by request.
func FuzzRouter(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		engines, slots := 1+rnd.IntN(5), 1+rnd.IntN(6)
		r, d := NewRouter(engines, slots), &dumbRouter{engines: engines, slots: slots}
		for range 200 {
			if len(d.live) > 0 && rnd.IntN(5) < 2 {
				i := rnd.IntN(len(d.live))
				l := &d.live[i]
				r.Ended(l.engine, 1)
				if l.answers--; l.answers == 0 {
					r.Left(l.engine, l.route)
					d.live = slices.Delete(d.live, i, i+1)
				}
				continue
			}
			// Prompts share beginnings of some lengths.
			tokens := join(prompt(uint64(rnd.IntN(2)), rnd.IntN(100)), prompt(uint64(rnd.IntN(4)), rnd.IntN(60)), prompt(rnd.Uint64(), 1+rnd.IntN(30)))
			q := route(tokens, 1+rnd.IntN(3), 0)
			q.Known = rnd.IntN(len(q.Chain) + 1)
			down := rnd.IntN(2 * engines)
			up := func(i int) bool { return i != down }
			want := d.pick(q, tokens, up)
			if got := r.Pick(q, up); got != want {
				t.Fatalf("engine %d, want %d", got, want)
			}
			d.live = append(d.live, routed{want, q.Answers, q, tokens})
		}
		for _, l := range d.live {
			r.Ended(l.engine, l.answers)
			r.Left(l.engine, l.route)
		}
		for i, n := range r.load {
			if n != 0 || len(r.held) != 0 {
				t.Fatalf("engine %d has %d answers, %d pages are held, of none", i, n, len(r.held))
			}
		}
	})
}
