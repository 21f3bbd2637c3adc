package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/cache/store/storetest"
	"llamero/engine"
	"llamero/scheduler"
)

// spared reads an answer to its end, and returns how many tokens its prompt was
// spared.
func spared(t *testing.T, l *Loop, r scheduler.Request) (cached int, got answer) {
	t.Helper()
	s := submit(t, l, r)
	for {
		events, err := s.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return cached, got
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			switch ev.Kind {
			case scheduler.EventAdmitted:
				cached = ev.Cached
			case scheduler.EventTokens:
				for _, x := range ev.Tokens {
					got.tokens = append(got.tokens, x.Token)
				}
			case scheduler.EventDone:
				got.finish, got.err = ev.Finish, ev.Err
			}
		}
	}
}

// liar is a shelf that hands out something else than what it was given.
type liar struct {
	*shelf
	lie func(pages [][]byte) [][]byte
}

func (l *liar) Get(ctx context.Context, want []cache.Wanted) ([][]byte, func(), error) {
	pages, release, err := l.shelf.Get(ctx, want)
	return l.lie(pages), release, err
}

// lied has one loop write a prompt's pages and another read them through a tier that
// lies.
func lied(t *testing.T, lie func([][]byte) [][]byte) (cached int, right bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tier := &shelf{pages: map[cache.Address][]byte{}}
		one, _ := pagedLoop(t, tier)
		two, e := pagedLoop(t, &liar{tier, lie})
		defer stop(t, one)
		defer stop(t, two)
		r := request(1, 200, 10)
		spared(t, one, r)
		synctest.Wait() // until it has been written
		var got answer
		cached, got = spared(t, two, r)
		right = slices.Equal(got.tokens, e.Reference(r.Prompt, r.Sampling, r.MaxTokens))
	})
	return cached, right
}

// The control: nothing behind a tier looks at what KV is of, so what a tier is to see
// to changes the answer if it does not, and the tests below would tell.
func TestLiesReachTheAnswer(t *testing.T) {
	foreign := make([]byte, enginePage(t))
	for name, lie := range map[string]func([][]byte) [][]byte{
		"shifted": func(pages [][]byte) [][]byte { return append(pages[:1:1], pages[:len(pages)-1]...) },
		"foreign": func(pages [][]byte) [][]byte { return append(pages[:3:3], foreign) },
	} {
		if cached, right := lied(t, lie); cached == 0 || right {
			t.Errorf("%s: %d tokens cached, and the answer is right: %v", name, cached, right)
		}
	}
}

// enginePage is how long a page of the tests' engines is.
func enginePage(t *testing.T) int {
	t.Helper()
	l := newTimed(1).Limits()
	return l.PageBytes
}

// What is no page is not used, nor what nobody asked for: the rest of a page of memory
// would be what was there before, perhaps somebody else's.
func TestPagesOfAnotherSize(t *testing.T) {
	for name, x := range map[string]struct {
		lie  func([][]byte) [][]byte
		want int // pages
	}{
		"all well": {func(pages [][]byte) [][]byte { return pages }, 12},
		"short":    {func(pages [][]byte) [][]byte { return replaced(pages, 5, pages[5][:20]) }, 5},
		"empty":    {func(pages [][]byte) [][]byte { return replaced(pages, 0, nil) }, 0},
		"long":     {func(pages [][]byte) [][]byte { return replaced(pages, 7, append(pages[7], 1)) }, 7},
		"too many": {func(pages [][]byte) [][]byte { return append(pages, pages...) }, 12},
	} {
		t.Run(name, func(t *testing.T) {
			if cached, right := lied(t, x.lie); cached != 16*x.want || !right {
				t.Errorf("%d tokens cached, want %d; the answer is right: %v", cached, 16*x.want, right)
			}
		})
	}
}

// replaced is a list with another page in one place.
func replaced(pages [][]byte, at int, page []byte) [][]byte {
	pages = slices.Clone(pages)
	pages[at] = page
	return pages
}

// A tier that reads slowly what it was handed reads what was saved, however short of
// memory the loop is meanwhile.
func TestSlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &shelf{takes: time.Second, pages: map[cache.Address][]byte{}}
		one, e1 := pagedLoop(t, tier)
		two, e2 := pagedLoop(t, tier)
		defer stop(t, one)
		defer stop(t, two)
		const requests = 20 // of 13 pages each; memory has 40
		for i := range requests {
			r := request(i+1, 200, 10)
			_, got := spared(t, one, r)
			expect(t, e1, r, 0, got)
		}
		time.Sleep(2 * time.Second) // until all has been written
		synctest.Wait()
		if tier.held != 0 || one.Stats().Pages.Evictions == 0 {
			t.Errorf("%d pages are still held, %d had to go", tier.held, one.Stats().Pages.Evictions)
		}
		tier.takes = 0
		hits := 0
		for i := range requests {
			r := request(i+1, 200, 10)
			cached, got := spared(t, two, r)
			expect(t, e2, r, 0, got)
			if cached == 192 {
				hits++
			}
		}
		if hits < requests/3 {
			t.Errorf("%d of %d prompts were in the tier", hits, requests)
		}
	})
}

// The whole way, from a Redis that serves a page in another one's place to the
// answer: it is not used, those before it are, and the answer is the reference's.
func TestRedisThatLies(t *testing.T) {
	m := miniredis.RunT(t)
	tier := func() *store.Redis {
		l := newTimed(1).Limits()
		r, err := store.NewRedis(store.RedisOptions{URL: "redis://" + m.Addr(), Key: []byte("a key that the loops share"),
			PageTokens: l.PageTokens, PageBytes: l.PageBytes, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	from, to := tier(), tier()
	one, e1 := pagedLoop(t, from)
	two, e2 := pagedLoop(t, to)
	defer stop(t, one)
	defer stop(t, two)

	const pages = 13 // of a prompt of 200 tokens and 10 of its answer
	seed := 0
	write := func(t *testing.T, r scheduler.Request) (keys []string) {
		t.Helper()
		_, got := spared(t, one, r)
		expect(t, e1, r, 0, got)
		for _, a := range cache.Chain(cache.Root(r.Tenant), nil, slices.Concat(r.Prompt, got.tokens[:len(got.tokens)-1]), 16) {
			key := fmt.Sprintf("llamero:1:%x", a[:])
			storetest.Until(t, "a page is in Redis", func() bool { return m.Exists(key) })
			keys = append(keys, key)
		}
		if len(keys) != pages {
			t.Fatalf("%d pages", len(keys))
		}
		return keys
	}
	foreign := func(t *testing.T, r scheduler.Request) []string {
		t.Helper()
		r.Tenant = "another"
		return write(t, r)
	}
	for _, x := range []struct {
		name string
		at   int // the page in whose place another one is
		page func(t *testing.T, r scheduler.Request, keys []string) (key string)
	}{
		{"nothing", pages, nil},
		{"the page before", 5, func(_ *testing.T, _ scheduler.Request, keys []string) string { return keys[4] }},
		{"the page after", 5, func(_ *testing.T, _ scheduler.Request, keys []string) string { return keys[6] }},
		{"another root's first page", 0, func(t *testing.T, r scheduler.Request, _ []string) string { return foreign(t, r)[0] }},
		{"another root's page", 7, func(t *testing.T, r scheduler.Request, _ []string) string { return foreign(t, r)[7] }},
		{"another prompt's page", 2, func(t *testing.T, r scheduler.Request, _ []string) string {
			r.Prompt = slices.Concat([]engine.Token{999}, r.Prompt[1:])
			return write(t, r)[2]
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			for range 5 {
				seed++
				r := request(seed, 200, 10)
				keys := write(t, r)
				if x.page != nil {
					value, err := m.Get(x.page(t, r, keys))
					if err == nil {
						err = m.Set(keys[x.at], value)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				before := to.Stats()
				cached, got := spared(t, two, r)
				expect(t, e2, r, 0, got)
				after := to.Stats()
				if after.Timeouts+after.Errors != before.Timeouts+before.Errors {
					continue // too slow a machine proves nothing
				}
				if want := 16 * min(x.at, 200/16); cached != want {
					t.Errorf("%d tokens cached, want %d", cached, want)
				}
				bad := uint64(1)
				if x.page == nil {
					bad = 0
				}
				if n := after.Bad["address"] - before.Bad["address"]; n != bad {
					t.Errorf("%d pages with another address, want %d", n, bad)
				}
				return
			}
			t.Error("Redis never answered in time")
		})
	}
}
