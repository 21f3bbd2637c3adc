package scheduler

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/engine/enginetest"
)

func splitLimits(slots, slotTokens int) engine.Limits {
	l := enginetest.DefaultLimits(engine.Split)
	l.Slots, l.SlotTokens, l.PoolTokens = slots, slotTokens, slots*slotTokens
	l.PassOutputs = max(l.PassOutputs, slots+l.Scratch)
	return l
}

// TestFCFS: of one tenant and one priority, who comes first starts first.
func TestFCFS(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, Config{Limits: splitLimits(1+r.IntN(5), 128)})
		var want []ID
		for i := range 30 {
			id := ID(100 - i) // names do not matter
			w.add(Request{ID: id, Prompt: prompt(uint64(i), 1+r.IntN(100)), MaxTokens: 1 + r.IntN(20)})
			want = append(want, id)
			for range r.IntN(3) {
				w.step()
			}
		}
		w.run()
		if !slices.Equal(w.order, want) {
			t.Fatalf("seed %d: started in the order %v, added %v", seed, w.order, want)
		}
	}
}

// TestPriority: whenever a request starts, nobody more urgent is waiting.
func TestPriority(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		w := newWorld(t, Config{Limits: splitLimits(2, 128)})
		priority := map[ID]int{}
		waiting := map[ID]bool{}
		w.onEvents = func(events []Event) {
			for _, e := range events {
				if e.Kind != EventAdmitted {
					continue
				}
				delete(waiting, e.ID)
				for id := range waiting {
					if priority[id] < priority[e.ID] {
						t.Errorf("seed %d: request %d of priority %d starts before %d of %d", seed, e.ID, priority[e.ID], id, priority[id])
					}
				}
			}
		}
		for i := range 40 {
			id := ID(i + 1)
			priority[id], waiting[id] = r.IntN(5)-2, true
			w.add(Request{ID: id, Tenant: fmt.Sprint(r.IntN(3)), Priority: priority[id], Prompt: prompt(uint64(i), 1+r.IntN(60)), MaxTokens: 1 + r.IntN(10)})
			for range r.IntN(4) {
				w.step()
			}
		}
		w.run()
		if len(waiting) > 0 {
			t.Fatalf("%d requests never started", len(waiting))
		}
	}
}

// TestFairShare: one tenant floods, another comes later with a steady load of its
// own. While both wait, their service stays within what the running requests can
// differ by, whatever happened before; so the newcomer is served at once and gets
// its half.
func TestFairShare(t *testing.T) {
	const slots, prompts, answers = 4, 40, 20
	w := newWorld(t, Config{Limits: splitLimits(slots, 128)})
	service := map[string]float64{}
	tenant := map[ID]string{}
	row := map[int32]string{} // who sits in a slot
	waiting := map[string]int{}
	w.onEvents = func(events []Event) {
		for _, e := range events {
			if e.Kind == EventAdmitted {
				waiting[tenant[e.ID]]--
			}
		}
	}
	w.onPlan = func(engine.Plan) {
		clear(row)
		for i, q := range w.s.slots {
			if q != nil {
				row[int32(i)] = q.req.Tenant
			}
		}
	}
	// A single request is worth so much; each running one may be ahead by that.
	const bound = slots * (promptWeight*(prompts+answers) + answerWeight*answers)
	worst := 0.0
	w.onOutput = func(p *engine.Plan, out *engine.Output) {
		for i, r := range p.Passes[out.Pass].Rows {
			if !r.Idle {
				service[row[r.Slot]] += promptWeight*float64(len(r.Tokens)) + answerWeight*float64(len(out.Rows[i].Sampled))
			}
		}
		if waiting["flood"] > 0 && waiting["steady"] > 0 {
			worst = max(worst, math.Abs(service["flood"]-service["steady"]))
		}
	}
	next := ID(1)
	add := func(who string) ID {
		tenant[next] = who
		waiting[who]++
		w.add(Request{ID: next, Tenant: who, Prompt: prompt(uint64(next), prompts), MaxTokens: answers})
		next++
		return next - 1
	}
	for range 100 {
		add("flood")
	}
	w.until("40 started", func() bool { return len(w.order) >= 40 })
	clear(service) // what the flood had while it was alone is not held against it
	first := add("steady")
	started := len(w.order)
	for range 39 {
		add("steady")
	}
	w.until("one of them done", func() bool { return waiting["flood"] == 0 || waiting["steady"] == 0 })
	if at := slices.Index(w.order, first); at < 0 || at > started+1 {
		t.Errorf("the newcomer was number %d to start, %d had started before it came", at, started)
	}
	if worst > bound {
		t.Errorf("service differed by %.0f, at most %.0f is fair", worst, float64(bound))
	}
	w.run()
}

// TestIdlenessIsNotSavedUp: a tenant that has been away does not push out the one
// that was there.
func TestIdlenessIsNotSavedUp(t *testing.T) {
	w := newWorld(t, Config{Limits: splitLimits(1, 128)})
	add := func(id ID, who string) {
		w.add(Request{ID: id, Tenant: who, Prompt: prompt(uint64(id), 20), MaxTokens: 5})
	}
	add(1, "away")
	w.run()
	for id := ID(2); id < 30; id++ { // a long time alone
		add(id, "there")
	}
	w.until("20 started", func() bool { return len(w.order) >= 20 })
	for id := ID(40); id < 50; id++ {
		add(id, "away")
	}
	started := len(w.order)
	w.until("8 more started", func() bool { return len(w.order) >= started+8 })
	there := 0
	for _, id := range w.order[started:] {
		if id < 30 {
			there++
		}
	}
	if there < 3 || there > 5 {
		t.Errorf("of 8 starts after the other's return %d were of who was there; want about half", there)
	}
	w.run()
}

// TestSharesAreBounded: tenants that have gone do not stay for ever.
func TestSharesAreBounded(t *testing.T) {
	s := New(Config{Limits: splitLimits(1, 128), Queue: 10})
	for i := range 10 * maxShares {
		if err := s.Add(Request{ID: 1, Tenant: fmt.Sprint(i), Prompt: prompt(1, 5)}); err != nil {
			t.Fatal(err)
		}
		s.Cancel(1, 0)
	}
	if len(s.shares) > maxShares {
		t.Errorf("%d tenants are remembered, at most %d are wanted", len(s.shares), maxShares)
	}
}

func TestQueueLimit(t *testing.T) {
	w := newWorld(t, Config{Limits: splitLimits(1, 128), Queue: 3})
	r := func(id ID) Request { return Request{ID: id, Prompt: prompt(1, 10), MaxTokens: 3, Choices: 2} }
	for id := ID(1); id <= 3; id++ {
		w.add(r(id))
	}
	if err := w.s.Add(r(4)); !errors.Is(err, ErrQueueFull) {
		t.Fatalf("a fourth request: %v, want %v", err, ErrQueueFull)
	}
	w.step() // the first one starts, and its place is free
	w.add(r(4))
	if err := w.s.Add(r(5)); !errors.Is(err, ErrQueueFull) {
		t.Fatalf("a fifth request: %v, want %v", err, ErrQueueFull)
	}
	w.take(w.s.Cancel(3, w.now))
	w.add(r(5))
	w.run()
}

func TestDeadlines(t *testing.T) {
	w := newWorld(t, Config{Limits: splitLimits(1, 128)})
	w.add(Request{ID: 1, Prompt: prompt(1, 10), MaxTokens: 50, Deadline: 1})
	w.step()
	w.add(Request{ID: 2, Prompt: prompt(2, 10), MaxTokens: 5, Choices: 3, Deadline: w.now + 40e6})
	w.add(Request{ID: 3, Prompt: prompt(3, 10), MaxTokens: 5, Deadline: w.now + 40e6, Priority: 1})
	w.add(Request{ID: 4, Prompt: prompt(4, 10), MaxTokens: 5, Deadline: w.now + 3600e9})
	deadline := w.now + 40e6
	for w.now < deadline {
		if slices.Contains(w.done[2], FinishExpired) || slices.Contains(w.done[3], FinishExpired) {
			t.Fatal("expired before its deadline")
		}
		if !w.step() {
			t.Fatal("nothing to do before the deadline")
		}
	}
	w.step()
	for _, id := range []ID{2, 3} {
		for c, f := range w.done[id] {
			if f != FinishExpired {
				t.Errorf("request %d, choice %d: finish %q, want expired", id, c, f)
			}
		}
	}
	w.run()
	for _, id := range []ID{1, 4} {
		if w.done[id][0] != FinishLength {
			t.Errorf("request %d ended with %q", id, w.done[id][0])
		}
	}
}

func TestFits(t *testing.T) {
	l := splitLimits(2, 64)
	ok := Request{Prompt: prompt(1, 20), MaxTokens: 5}
	with := func(change func(*Request)) Request { r := ok; change(&r); return r }
	for _, c := range []struct {
		name    string
		r       Request
		fits    bool
		tooLong bool
	}{
		{"a request", ok, true, false},
		{"the longest prompt", with(func(r *Request) { r.Prompt = prompt(1, 63) }), true, false},
		{"an answer beyond the slot's end", with(func(r *Request) { r.MaxTokens = 1 << 40 }), true, false},
		{"a prompt that leaves no room", with(func(r *Request) { r.Prompt = prompt(1, 64) }), false, true},
		{"a long prompt", with(func(r *Request) { r.Prompt = prompt(1, 640) }), false, true},
		{"no prompt", with(func(r *Request) { r.Prompt = nil }), false, false},
		{"a negative token", with(func(r *Request) { r.Prompt = []engine.Token{-1} }), false, false},
		{"a token beyond the vocabulary", with(func(r *Request) { r.Prompt = []engine.Token{engine.Token(l.Vocab)} }), false, false},
		{"negative choices", with(func(r *Request) { r.Choices = -1 }), false, false},
		{"negative tokens", with(func(r *Request) { r.MaxTokens = -2 }), false, false},
		{"nothing to generate, nothing to score", with(func(r *Request) { r.MaxTokens = -1 }), false, false},
		{"scores alone", with(func(r *Request) { r.MaxTokens, r.PromptScores = -1, true }), true, false},
		{"sampling out of range", with(func(r *Request) { r.Sampling.TopP = 3 }), false, false},
	} {
		err := Fits(c.r, l)
		if (err == nil) != c.fits || errors.Is(err, ErrTooLong) != c.tooLong {
			t.Errorf("%s: %v", c.name, err)
		}
		var tooLong *TooLongError
		if c.tooLong && (!errors.As(err, &tooLong) || tooLong.Tokens != len(c.r.Prompt) || tooLong.Limit != 63) {
			t.Errorf("%s: %#v", c.name, err)
		}
		s := New(Config{Limits: l, Queue: 1})
		if err2 := s.Add(c.r); (err2 == nil) != c.fits {
			t.Errorf("%s: Fits says %v, Add %v", c.name, err, err2)
		}
	}
	s := New(Config{Limits: l, Queue: 5})
	if err := errors.Join(s.Add(ok), s.Check()); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(ok); err == nil {
		t.Error("one ID twice")
	}
}
