package loop

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/scheduler"
)

// shelf is a remote tier in memory. It takes as long as it says, or hangs.
type shelf struct {
	takes time.Duration
	hangs bool

	mu    sync.Mutex
	pages map[cache.Address][]byte
	gets  int
	held  int // pages whose memory is not released yet
	lent  int // answers that are not released yet
}

// Get lends pages, which are others' once they are released.
func (s *shelf) Get(ctx context.Context, want []cache.Wanted) (out [][]byte, release func(), err error) {
	s.mu.Lock()
	s.gets++
	for _, w := range want {
		p := s.pages[w.Address]
		if p == nil {
			break
		}
		out = append(out, slices.Clone(p))
	}
	s.lent++
	s.mu.Unlock()
	release = func() {
		for _, kv := range out {
			for i := range kv {
				kv[i] = ^kv[i]
			}
		}
		s.mu.Lock()
		s.lent--
		s.mu.Unlock()
	}
	if s.hangs {
		<-ctx.Done()
		return nil, release, ctx.Err()
	}
	time.Sleep(s.takes)
	return out, release, nil
}

func (s *shelf) Put(a cache.Address, _ []cache.Token, kv []byte, release func()) {
	s.mu.Lock()
	s.held++
	s.mu.Unlock()
	go func() { // reads while the loop goes on
		time.Sleep(s.takes)
		s.mu.Lock()
		s.pages[a] = slices.Clone(kv)
		s.held--
		s.mu.Unlock()
		release()
	}()
}

func (s *shelf) Close() error { return nil }

// pagesOf are the pages of an engine's limits, with a remote tier, or none.
func pagesOf(t *testing.T, e *timed, remote cache.Remote) Pages {
	t.Helper()
	limits := e.Limits()
	lru, err := store.NewLRU(limits.Pages)
	if err != nil {
		t.Fatal(err)
	}
	return Pages{
		Host: cache.NewHost(limits.Pages, limits.PageTokens, lru), Root: func(tenant string) cache.Address { return cache.Root(tenant) },
		Remote: remote, Memory: e.Memory, Wait: 100 * time.Millisecond,
	}
}

// pagedLoop has slots of 256 tokens, 32 host pages of 16, and a remote tier.
func pagedLoop(t *testing.T, remote cache.Remote) (*Loop, *timed) {
	t.Helper()
	e := newTimed(4)
	return start(t, e, Options{Pages: pagesOf(t, e, remote)}), e
}

// first reads a stream to its end and returns how many tokens its prompt was spared,
// and how long it waited for its slot.
func first(t *testing.T, l *Loop, e *timed, r scheduler.Request) (cached int, waited time.Duration) {
	t.Helper()
	began := time.Now()
	s := submit(t, l, r)
	events, err := s.Next(t.Context())
	if err == nil && events[0].Kind == scheduler.EventLookup {
		if at := events[0].Lookup; at.Asked != len(r.Prompt)/16*16 || time.Duration(events[0].At-at.Began) != time.Since(began) {
			t.Errorf("a lookup of %d tokens in %v", at.Asked, time.Duration(events[0].At-at.Began))
		}
		if events = events[1:]; len(events) == 0 {
			events, err = s.Next(t.Context())
		}
	}
	if err != nil || events[0].Kind != scheduler.EventAdmitted {
		t.Fatalf("%v, %+v", err, events)
	}
	cached, waited = events[0].Cached, time.Since(began)
	var got answer
	for _, ev := range events {
		for _, x := range ev.Tokens {
			got.tokens = append(got.tokens, x.Token)
		}
	}
	rest := read(t, s, 1)[0]
	got.tokens, got.finish = append(got.tokens, rest.tokens...), rest.finish
	expect(t, e, r, 0, got)
	return cached, waited
}

func TestPagesKeepPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e := pagedLoop(t, nil)
		defer stop(t, l)
		r := request(1, 100, 10)
		if cached, _ := first(t, l, e, r); cached != 0 {
			t.Errorf("%d tokens cached of nothing", cached)
		}
		if cached, _ := first(t, l, e, r); cached != 96 {
			t.Errorf("%d tokens cached, want 96", cached)
		}
		r.Tenant = "another"
		if cached, _ := first(t, l, e, r); cached != 0 {
			t.Errorf("%d tokens cached of another tenant's", cached)
		}
	})
}

// What one loop computed, another has from the tier that they share.
func TestRemotePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &shelf{takes: 20 * time.Millisecond, pages: map[cache.Address][]byte{}}
		one, e1 := pagedLoop(t, tier)
		two, e2 := pagedLoop(t, tier)
		defer stop(t, one)
		defer stop(t, two)
		r := request(1, 200, 10)
		first(t, one, e1, r)
		time.Sleep(time.Second) // until it has been written
		synctest.Wait()
		if cached, waited := first(t, two, e2, r); cached != 192 || waited != tier.takes {
			t.Errorf("%d tokens cached after %v, want 192 after %v", cached, waited, tier.takes)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if tier.held != 0 || tier.lent != 0 {
			t.Errorf("%d pages are still held, %d answers lent", tier.held, tier.lent)
		}
		// A short prompt is not worth the question.
		before := tier.gets
		first(t, two, e2, request(2, 20, 5))
		if tier.gets != before {
			t.Error("a short prompt was looked for")
		}
		time.Sleep(time.Second)
	})
}

// A tier that hangs costs its deadline and nothing else.
func TestRemoteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &shelf{hangs: true, pages: map[cache.Address][]byte{}}
		l, e := pagedLoop(t, tier)
		defer stop(t, l)
		if cached, waited := first(t, l, e, request(1, 200, 10)); cached != 0 || waited != 100*time.Millisecond {
			t.Errorf("%d tokens cached after %v, want none after 100 ms", cached, waited)
		}
		// Whoever is cancelled meanwhile is gone at once.
		s := submit(t, l, request(2, 200, 10))
		synctest.Wait()
		s.Cancel()
		began := time.Now()
		if a := read(t, s, 1)[0]; a.finish != scheduler.FinishCancel || time.Since(began) != 0 {
			t.Errorf("%v after %v", a.finish, time.Since(began))
		}
	})
}

func TestPagesAreChecked(t *testing.T) {
	l := newTimed(2).Limits()
	lru, err := store.NewLRU(l.Pages)
	if err != nil {
		t.Fatal(err)
	}
	good := Pages{Host: cache.NewHost(l.Pages, l.PageTokens, lru), Root: func(string) cache.Address { return cache.Address{} },
		Remote: &shelf{}, Memory: make([]byte, l.Pages*l.PageBytes)}
	for name, change := range map[string]func(*Pages){
		"a remote tier alone":        func(p *Pages) { p.Host = nil },
		"no root":                    func(p *Pages) { p.Root = nil },
		"another account":            func(p *Pages) { p.Host = cache.NewHost(l.Pages+1, l.PageTokens, lru) },
		"pages of another size":      func(p *Pages) { p.Host = cache.NewHost(l.Pages, l.PageTokens+1, lru) },
		"memory that is too small":   func(p *Pages) { p.Memory = p.Memory[1:] },
		"a wait that ends before it": func(p *Pages) { p.Wait = -1 },
	} {
		p := good
		change(&p)
		if err := p.check(l); err == nil {
			t.Errorf("%s goes unseen", name)
		}
	}
	if err := good.check(l); err != nil {
		t.Error(err)
	}
	if err := (&Pages{}).check(engine.Limits{}); err != nil {
		t.Error(err)
	}
}
