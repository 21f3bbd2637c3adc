package loop

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/scheduler"
)

// groupOf starts a group over engines that share the first one's host pages.
func groupOf[E interface {
	engine.Engine
	fake() *timed
}](t *testing.T, opt Options, engines ...E) *Group {
	t.Helper()
	limits := engines[0].Limits()
	lru, err := store.NewLRU(limits.Pages)
	if err != nil {
		t.Fatal(err)
	}
	opt.Calibrate, opt.Log = -1, slog.New(slog.DiscardHandler)
	opt.Pages.Host = cache.NewHost(limits.Pages, limits.PageTokens, lru)
	opt.Pages.Root = func(tenant string) cache.Address { return cache.Root(tenant) }
	opt.Pages.Memory = engines[0].fake().Memory
	var list []engine.Engine
	for _, e := range engines {
		e.fake().Memory = opt.Pages.Memory
		list = append(list, e)
	}
	g, err := NewGroup(list, opt)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (e *timed) fake() *timed { return e }

// end closes a group, after which nothing may be held.
func (g *Group) end(t *testing.T) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if st := g.Stats(); st.Running != 0 || st.Waiting != 0 || st.TokensInUse != 0 || g.places.taken.Load() != 0 {
		t.Errorf("left: %+v, %d places", st, g.places.taken.Load())
	}
	for i, l := range g.loops {
		if err := l.sched.Check(); err != nil {
			t.Errorf("engine %d: %v", i, err)
		}
	}
	limits := g.Limits()
	all := request(99, limits.Pages*limits.PageTokens, 1).Prompt
	root := cache.Root("the last")
	if got := g.pages.Host.View().Put(root, cache.Chain(root, nil, all, limits.PageTokens), 0, all); len(got) != limits.Pages {
		t.Errorf("of %d pages %d can be had when nothing runs", limits.Pages, len(got))
	}
	again := g.router.Pick(&scheduler.Route{Answers: 1, Prompt: 1}, func(int) bool { return true })
	if again != 0 {
		t.Errorf("the router believes that engine 0 is busy: %d", again)
	}
}

// ask submits a request and reads its answer, which is as it should be. It returns how
// many tokens the prompt was spared.
func (g *Group) ask(t *testing.T, e *timed, r scheduler.Request) (cached int) {
	t.Helper()
	s, err := g.Submit(r, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	events, err := s.Next(t.Context())
	if err != nil || events[0].Kind != scheduler.EventAdmitted {
		t.Errorf("%v, %+v", err, events)
		return 0
	}
	cached = events[0].Cached
	var got answer
	for _, ev := range events {
		for _, x := range ev.Tokens {
			got.tokens = append(got.tokens, x.Token)
		}
		if ev.Kind == scheduler.EventDone {
			got.finish = ev.Finish
		}
	}
	if got.finish == scheduler.FinishNone {
		rest := read(t, s, 1)[0]
		got.tokens, got.finish, got.err = append(got.tokens, rest.tokens...), rest.finish, rest.err
	}
	expect(t, e, r, 0, got)
	return cached
}

func (g *Group) requests() (n []int) {
	for _, st := range g.Engines() {
		n = append(n, st.Requests)
	}
	return n
}

// What one engine has computed, another begins with.
func TestGroupSharesPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newTimed(4), newTimed(4)
		g := groupOf(t, Options{}, one, two)
		defer g.end(t)
		r := request(1, 100, 10)
		if cached := g.ask(t, one, r); cached != 0 {
			t.Errorf("%d tokens cached of nothing", cached)
		}
		synctest.Wait() // until its pages have been saved
		busy, err := g.Submit(request(2, 20, 200), 0)
		if err != nil {
			t.Fatal(err)
		}
		if cached := g.ask(t, one, r); cached != 96 {
			t.Errorf("%d tokens cached, want 96", cached)
		}
		read(t, busy, 1)
		synctest.Wait()
		if n := g.requests(); n[0] != 2 || n[1] != 1 {
			t.Errorf("requests by engine: %v, want 2 and 1", n)
		}
		if two.Restored != 96 {
			t.Errorf("%d tokens restored by the other engine", two.Restored)
		}
	})
}

// Those who send one prompt at once compute it once, on one engine.
func TestGroupComputesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newTimed(8), newTimed(8)
		g := groupOf(t, Options{}, one, two)
		defer g.end(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				r := request(1, 200, 10)
				r.Sampling.Seed = uint64(i)
				g.ask(t, one, r)
			})
		}
		wg.Wait()
		if two.Passes != 0 || one.Rows == 0 {
			t.Errorf("the other engine ran %d passes", two.Passes)
		}
	})
}

// One engine's death stops nobody else's answers, and takes no pages from them.
func TestGroupEngineDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newMortal(4, 5*time.Second), newMortal(4, 5*time.Second)
		var doomed atomic.Bool
		one.Fail = func(uint64, int) error {
			if !doomed.CompareAndSwap(true, false) {
				return nil
			}
			one.down.Store(true)
			return &engine.LostError{Reason: "killed", Begun: true}
		}
		g := groupOf(t, Options{}, one, two)
		defer g.end(t)
		var wg sync.WaitGroup
		took := make([]time.Duration, 8)
		began := time.Now()
		for i := range took {
			wg.Go(func() {
				g.ask(t, one.timed, request(i, 30, 40))
				took[i] = time.Since(began)
			})
			synctest.Wait() // one to each in turn
		}
		doomed.Store(true)
		for time.Since(began) < time.Second {
			time.Sleep(10 * time.Millisecond)
			if !g.Stats().Ready {
				t.Fatal("not ready while an engine runs")
			}
		}
		if st := g.Engines(); st[0].Ready || !st[1].Ready {
			t.Errorf("engine 0 is up: %v, 1: %v", st[0].Ready, st[1].Ready)
		}
		before := g.requests()
		for i := range 3 { // who comes meanwhile is served at once
			at := time.Now()
			g.ask(t, one.timed, request(20+i, 30, 10))
			if d := time.Since(at); d > time.Second {
				t.Errorf("an answer took %v while one of two engines was away", d)
			}
		}
		if after := g.requests(); after[0] != before[0] || after[1] != before[1]+3 {
			t.Errorf("requests by engine: %v, then %v", before, after)
		}
		wg.Wait()
		slow := 0
		for _, d := range took {
			if d > 5*time.Second {
				slow++
			}
		}
		if st := g.Engines(); slow != 4 || st[0].Failures != 1 || st[1].Failures != 0 {
			t.Errorf("%d of 8 answers had to wait for the engine, %d and %d steps failed", slow, st[0].Failures, st[1].Failures)
		}
		if !g.Engines()[0].Ready {
			t.Error("engine 0 is not back")
		}
		two.down.Store(true)
		one.down.Store(true)
		if g.Stats().Ready {
			t.Error("ready without an engine")
		}
		two.down.Store(false)
		one.down.Store(false)
	})
}

// The queue is that of the model: what all engines have no place for is refused at once.
func TestGroupQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newGated(2), newGated(2)
		g := groupOf(t, Options{Queue: 3}, one, two)
		defer g.end(t)
		if g.Capacity() != 7 {
			t.Fatalf("%d places", g.Capacity())
		}
		var streams []*Stream
		for i := range 7 {
			s, err := g.Submit(request(i, 20, 5), 0)
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			streams = append(streams, s)
		}
		if _, err := g.Submit(request(8, 20, 5), 0); !errors.Is(err, scheduler.ErrQueueFull) {
			t.Errorf("%v, want a refusal", err)
		}
		if _, err := g.Hold(); !errors.Is(err, scheduler.ErrQueueFull) {
			t.Errorf("%v, want a refusal", err)
		}
		if _, err := g.Submit(request(9, 300, 5), 0); !errors.Is(err, scheduler.ErrTooLong) {
			t.Errorf("a long prompt: %v", err)
		}
		if st := g.Stats(); st.Slots != 4 || st.PoolTokens != 4*256 {
			t.Errorf("%+v", st)
		}
		close(one.gate)
		close(two.gate)
		for i, s := range streams {
			expect(t, one, request(i, 20, 5), 0, read(t, s, 1)[0])
		}
	})
}

func TestGroupDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newTimed(2), newTimed(2)
		g := groupOf(t, Options{}, one, two)
		defer g.end(t)
		var streams []*Stream
		for i := range 6 {
			s, err := g.Submit(request(i, 20, 30), 0)
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		drained := make(chan error)
		go func() { drained <- g.Drain(t.Context()) }()
		synctest.Wait()
		if _, err := g.Submit(request(9, 10, 1), 0); !errors.Is(err, ErrDraining) {
			t.Errorf("%v, want %v", err, ErrDraining)
		}
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		for i, s := range streams {
			expect(t, one, request(i, 20, 30), 0, read(t, s, 1)[0])
		}
	})
}

func TestNewGroupRefuses(t *testing.T) {
	broken := errors.New("broken")
	for name, x := range map[string]struct {
		engines []*timed
		opt     Options
	}{
		"no engines":      {nil, Options{}},
		"unlike engines":  {[]*timed{newTimed(2), newTimed(3)}, Options{}},
		"options":         {[]*timed{newTimed(2), newTimed(2)}, Options{Queue: -1}},
		"a broken engine": {[]*timed{newTimed(2), newTimed(2)}, Options{}},
	} {
		var list []engine.Engine
		for _, e := range x.engines {
			list = append(list, e)
		}
		if name == "a broken engine" {
			x.engines[1].Fail = func(uint64, int) error { return broken }
		}
		x.opt.Log = slog.New(slog.DiscardHandler)
		_, err := NewGroup(list, x.opt)
		if err == nil || name == "a broken engine" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		for i, e := range x.engines {
			if e.closed != 1 {
				t.Errorf("%s: engine %d was closed %d times", name, i, e.closed)
			}
		}
	}
}

// waited is a shelf whose writing can be waited for.
type waited struct {
	*shelf
	puts sync.WaitGroup
}

func (w *waited) Put(a cache.Address, tokens []cache.Token, kv []byte, release func()) {
	w.puts.Add(1)
	w.shelf.Put(a, tokens, kv, func() { release(); w.puts.Done() })
}

// TestGroupCrowd: clients come and go on real goroutines, over a memory that is too
// small, with a tier behind it, while engines die; no answer is wrong, and in the end
// nothing is held. Run with -race.
func TestGroupCrowd(t *testing.T) {
	for _, engines := range []int{2, 3} {
		t.Run(fmt.Sprint(engines), func(t *testing.T) {
			var list []*mortal
			for range engines {
				e := newMortal(4, 0)
				e.Cost = func(*engine.Pass, int) int64 { return 20_000 }
				list = append(list, e)
			}
			var steps sync.Mutex
			rnd := rand.New(rand.NewPCG(uint64(engines), 3))
			for _, e := range list {
				e.Fail = func(uint64, int) error {
					steps.Lock()
					defer steps.Unlock()
					if rnd.IntN(60) > 0 {
						return nil
					}
					e.down.Store(true)
					return &engine.LostError{Reason: "killed"}
				}
			}
			tier := &waited{shelf: &shelf{pages: map[cache.Address][]byte{}}}
			g := groupOf(t, Options{Queue: 300, Pages: Pages{Remote: tier}}, list...)
			var wg sync.WaitGroup
			for i := range 150 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(i), 7))
					q := request(i%12, 1+r.IntN(200), 1+r.IntN(40))
					q.Sampling.Seed = uint64(i)
					s, err := g.Submit(q, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if i%4 > 0 {
						expect(t, list[0].timed, q, 0, read(t, s, 1)[0])
						return
					}
					s.Cancel()
					read(t, s, 1)
				})
			}
			wg.Wait()
			if err := g.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			tier.puts.Wait()
			g.end(t)
			if st := g.Stats(); st.Pages.Evictions == 0 {
				t.Errorf("%+v: the memory was not too small", st.Pages)
			}
		})
	}
}
