package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"llamero/cache"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// Config says what is tested.
type Config struct {
	PageTokens, PageBytes int
	// Open returns a tier over an empty store, and a func that returns further tiers
	// over the same store, as other processes have them. What it opens it closes when
	// the test ends.
	Open func(t *testing.T) (tier cache.Remote, another func() cache.Remote)
}

// Page is a page of one chain.
type Page struct {
	cache.Wanted
	KV []byte
}

// Chain makes n pages that follow one another; the same for the same seed.
func Chain(seed uint64, n, pageTokens, pageBytes int) []Page {
	r := rand.New(rand.NewPCG(seed, 11))
	a := cache.Root("storetest")
	out := make([]Page, n)
	for i := range out {
		tokens := make([]cache.Token, pageTokens)
		for j := range tokens {
			tokens[j] = cache.Token(r.Int32())
		}
		kv := make([]byte, pageBytes)
		for j := 0; j+8 <= len(kv); j += 8 {
			binary.LittleEndian.PutUint64(kv[j:], r.Uint64())
		}
		a = a.Child(tokens)
		out[i] = Page{Wanted: cache.Wanted{Address: a, Tokens: tokens}, KV: kv}
	}
	return out
}

// Want is what to ask for to get pages.
func Want(pages []Page) []cache.Wanted {
	out := make([]cache.Wanted, len(pages))
	for i := range pages {
		out[i] = pages[i].Wanted
	}
	return out
}

// Until waits for a condition.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// Store puts pages one by one and waits until another asker finds each of them.
func Store(t testing.TB, tier cache.Remote, pages []Page) {
	t.Helper()
	for i := range pages {
		var released atomic.Int32
		tier.Put(pages[i].Address, pages[i].Tokens, pages[i].KV, func() { released.Add(1) })
		Until(t, "a page that was put is there", func() bool {
			return released.Load() == 1 && len(Get(t, tier, pages[i:i+1])) == 1
		})
	}
}

// Get asks for pages until there is no error, which a slow machine may cause. What
// comes must be right, each time.
func Get(t testing.TB, tier cache.Remote, pages []Page) [][]byte {
	t.Helper()
	var got [][]byte
	Until(t, "Get without an error", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		lent, release, err := tier.Get(ctx, Want(pages))
		Check(t, lent, pages)
		got = nil
		for _, kv := range lent {
			got = append(got, bytes.Clone(kv))
		}
		release()
		return err == nil
	})
	return got
}

// Check compares what Get returned with the pages that were asked for.
func Check(t testing.TB, got [][]byte, pages []Page) {
	t.Helper()
	if len(got) > len(pages) {
		t.Fatalf("%d pages of %d", len(got), len(pages))
	}
	for i := range got {
		if !bytes.Equal(got[i], pages[i].KV) {
			t.Fatalf("page %d is not the one that was asked for", i)
		}
	}
}

// Remote runs every test on tiers that Open returns.
func Remote(t *testing.T, cfg Config) {
	chain := func(seed uint64, n int) []Page { return Chain(seed, n, cfg.PageTokens, cfg.PageBytes) }
	for _, test := range []struct {
		name string
		run  func(t *testing.T, tier cache.Remote, another func() cache.Remote)
	}{
		{"nothing", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			if got := Get(t, tier, chain(1, 3)); len(got) != 0 {
				t.Errorf("%d pages of an empty store", len(got))
			}
			if got := Get(t, tier, nil); len(got) != 0 {
				t.Errorf("%d pages where none were asked for", len(got))
			}
		}},
		{"round trip", func(t *testing.T, tier cache.Remote, another func() cache.Remote) {
			pages := chain(1, 20)
			Store(t, tier, pages)
			for _, asker := range []cache.Remote{tier, another()} {
				for _, n := range []int{1, 2, 7, 20} {
					if got := Get(t, asker, pages[:n]); len(got) != n {
						t.Errorf("%d pages of %d", len(got), n)
					}
				}
				if got := Get(t, asker, pages[5:9]); len(got) != 4 {
					t.Errorf("%d pages of 4 in the middle", len(got))
				}
			}
		}},
		{"order", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 6)
			Store(t, tier, pages)
			slices.Reverse(pages)
			pages = append(pages, pages[2])
			if got := Get(t, tier, pages); len(got) != len(pages) {
				t.Errorf("%d pages of %d", len(got), len(pages))
			}
		}},
		{"prefix", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 9)
			Store(t, tier, slices.Concat(pages[:4], pages[5:]))
			if got := Get(t, tier, pages); len(got) != 4 {
				t.Errorf("%d pages, where the fifth is not there", len(got))
			}
			if got := Get(t, tier, pages[4:]); len(got) != 0 {
				t.Errorf("%d pages, where the first is not there", len(got))
			}
		}},
		{"other tokens", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 3)
			Store(t, tier, pages)
			for i := range pages[1].Tokens {
				other := slices.Clone(pages)
				other[1].Tokens = slices.Clone(other[1].Tokens)
				other[1].Tokens[i]++
				if got := Get(t, tier, other); len(got) != 1 {
					t.Errorf("%d pages, where the second one's token %d is another", len(got), i)
				}
			}
			if got := Get(t, tier, pages); len(got) != 3 {
				t.Errorf("%d pages of 3 after others had been asked for", len(got))
			}
		}},
		{"other address", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages, strangers := chain(1, 3), chain(2, 3)
			Store(t, tier, pages)
			for i := range pages { // the same tokens behind another chain
				pages[i].Address = strangers[i].Address
			}
			if got := Get(t, tier, pages); len(got) != 0 {
				t.Errorf("%d pages of an address that is not there", len(got))
			}
		}},
		{"released memory is free", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 1)
			kv, tokens := slices.Clone(pages[0].KV), slices.Clone(pages[0].Tokens)
			done := make(chan struct{})
			tier.Put(pages[0].Address, tokens, kv, func() { clear(kv); close(done) })
			clear(tokens) // which are not lent at all
			<-done
			Until(t, "the page is there as it was put", func() bool { return len(Get(t, tier, pages)) == 1 })
		}},
		{"pages are the asker's", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 1)
			Store(t, tier, pages)
			clear(Get(t, tier, pages)[0])
			if got := Get(t, tier, pages); len(got) != 1 {
				t.Error("the page has gone")
			}
		}},
		{"release once", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 300) // more than a queue holds
			released := make([]atomic.Int32, 3*len(pages))
			for i := range released {
				p := pages[i%len(pages)]
				tier.Put(p.Address, p.Tokens, p.KV, func() { released[i].Add(1) })
			}
			tier.Put(pages[0].Address, pages[0].Tokens, pages[0].KV, nil) // nobody wants to know
			if err := tier.Close(); err != nil {
				t.Error(err)
			}
			for i := range released {
				if n := released[i].Load(); n != 1 {
					t.Fatalf("page %d was released %d times", i, n)
				}
			}
		}},
		{"context", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			pages := chain(1, 2)
			Store(t, tier, pages)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if got, _, err := tier.Get(ctx, Want(pages)); err == nil || len(got) != 0 {
				t.Errorf("%d pages, error %v, after the end of the context", len(got), err)
			}
			if got := Get(t, tier, pages); len(got) != 2 {
				t.Errorf("%d pages of 2 after a context had ended", len(got))
			}
		}},
		{"lent", func(t *testing.T, tier cache.Remote, _ func() cache.Remote) {
			// Until it is released nobody else gets a page's memory.
			one, two := chain(1, 3), chain(2, 3)
			Store(t, tier, one)
			Store(t, tier, two)
			var lent [][]byte
			var release func()
			Until(t, "all pages at once", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				lent, release, _ = tier.Get(ctx, Want(one))
				return len(lent) == len(one)
			})
			for range 3 {
				Get(t, tier, two)
			}
			Check(t, lent, one)
			release()
			release() // twice does no harm
			Get(t, tier, one)
			Get(t, tier, two)
		}},
		{"concurrent", func(t *testing.T, tier cache.Remote, another func() cache.Remote) {
			other := another()
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					mine := chain(uint64(g/2), 12) // two write and read the same ones
					at := tier
					if g%2 == 1 {
						at = other
					}
					for i := range mine {
						at.Put(mine[i].Address, mine[i].Tokens, mine[i].KV, nil)
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						got, release, _ := at.Get(ctx, Want(mine)) // an error is no fault, a wrong page is
						cancel()
						for j := range got {
							if !bytes.Equal(got[j], mine[j].KV) {
								t.Errorf("page %d is another one", j)
								return
							}
						}
						release()
					}
				})
			}
			wg.Wait()
			for g := range 4 {
				mine := chain(uint64(g), 12)
				Until(t, "every page that was put is there", func() bool {
					n := len(Get(t, tier, mine))
					if n < len(mine) { // the queue may have been full
						tier.Put(mine[n].Address, mine[n].Tokens, mine[n].KV, nil)
					}
					return n == len(mine)
				})
			}
		}},
		{"closed", func(t *testing.T, tier cache.Remote, another func() cache.Remote) {
			pages := chain(1, 2)
			other := another()
			Store(t, tier, pages)
			for range 2 {
				if err := tier.Close(); err != nil {
					t.Error(err)
				}
			}
			if got, _, err := tier.Get(t.Context(), Want(pages)); err == nil || len(got) != 0 {
				t.Errorf("%d pages, error %v, of a closed tier", len(got), err)
			}
			released := 0
			tier.Put(pages[0].Address, pages[0].Tokens, pages[0].KV, func() { released++ })
			if released != 1 {
				t.Errorf("a closed tier released a page %d times", released)
			}
			if got := Get(t, other, pages); len(got) != 2 {
				t.Errorf("another tier finds %d pages of 2", len(got))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tier, another := cfg.Open(t)
			test.run(t, tier, another)
		})
	}
}
