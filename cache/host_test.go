package cache_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/cache/store"
)

const pageTokens = 4

// newHost returns the account of an engine that has the memory to itself.
func newHost(t testing.TB, pages int) *cache.View {
	t.Helper()
	lru, err := store.NewLRU(pages)
	if err != nil {
		t.Fatal(err)
	}
	return cache.NewHost(pages, pageTokens, lru).View()
}

// text is n pages of tokens; texts of one seed begin alike.
func text(seed uint64, n int) []cache.Token {
	r := rand.New(rand.NewPCG(seed, 3))
	out := make([]cache.Token, n*pageTokens)
	for i := range out {
		out[i] = cache.Token(r.IntN(1000))
	}
	return out
}

var root = cache.Root("test")

func chain(tokens []cache.Token) []cache.Address {
	return cache.Chain(root, nil, tokens, pageTokens)
}

func TestAddresses(t *testing.T) {
	a := text(1, 3)
	whole := chain(a)
	if len(whole) != 3 {
		t.Fatalf("%d pages", len(whole))
	}
	// Grown piece by piece, partial pages left out, the chain is the same.
	var grown []cache.Address
	for n := range len(a) + 1 {
		grown = cache.Chain(root, grown, a[:n], pageTokens)
		if len(grown) != n/pageTokens {
			t.Fatalf("%d pages of %d tokens", len(grown), n)
		}
	}
	if !slices.Equal(grown, whole) {
		t.Error("a chain depends on how it grew")
	}
	// A page's address depends on every token before its end, and on the root.
	for i := range a {
		b := slices.Clone(a)
		b[i]++
		other := chain(b)
		for p := range whole {
			if (other[p] == whole[p]) != (p < i/pageTokens) {
				t.Errorf("token %d, page %d: %v", i, p, other[p] == whole[p])
			}
		}
	}
	for _, parts := range [][]string{{"tes", "t"}, {"test", ""}, {}, {"t", "est"}} {
		if cache.Root(parts...) == root {
			t.Errorf("the root of %q is that of \"test\"", parts)
		}
	}
}

func put(t *testing.T, h *cache.View, tokens []cache.Token, first int) []int32 {
	t.Helper()
	pages := h.Put(root, chain(tokens), first, tokens)
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	return pages
}

func match(h *cache.View, tokens []cache.Token) int { return h.Match(chain(tokens), tokens) }

func TestPutAndMatch(t *testing.T) {
	h := newHost(t, 8)
	a := text(1, 3)
	if n := match(h, a); n != 0 {
		t.Errorf("%d pages known of nothing", n)
	}
	pages := put(t, h, a, 0)
	if len(pages) != 3 || match(h, a) != 3 || !slices.Equal(h.Use(chain(a)), pages) {
		t.Errorf("pages %v, %d known", pages, match(h, a))
	}
	// Another text with the first page in common.
	b := slices.Concat(a[:pageTokens], text(2, 2))
	if n := match(h, b); n != 1 {
		t.Errorf("%d pages known of a text with one in common", n)
	}
	if got := put(t, h, b, 0); len(got) != 3 || got[0] != -1 || got[1] < 0 {
		t.Errorf("pages %v; the first was there", got)
	}
	// A page without those before it can be found by nobody.
	if got := put(t, h, text(5, 3), 1); got != nil {
		t.Errorf("pages %v behind one that is not there", got)
	}
	h.Landed()
	long := slices.Concat(a, text(6, 2))
	put(t, h, long, 3)
	h.Lost() // what was written before stays
	if n := match(h, long); n != 3 || h.Check() != nil {
		t.Errorf("%d pages known of those that were lost: %v", n, h.Check())
	}
	if n := match(h, b); n != 3 {
		t.Errorf("%d pages known of the other text", n)
	}
}

// Leaves go before their parents, the longest unused first, and never a page of the
// chain for which room is made.
func TestEviction(t *testing.T) {
	h := newHost(t, 6)
	a, b := text(1, 3), text(2, 3)
	put(t, h, a, 0)
	put(t, h, b, 0)
	h.Landed()
	h.Use(chain(a))
	h.Landed()
	c := text(3, 2)
	if got := put(t, h, c, 0); len(got) != 2 {
		t.Fatalf("pages %v", got)
	}
	if match(h, a) != 3 || match(h, b) != 1 {
		t.Errorf("%d and %d known; b was not used for longest, its end goes first", match(h, a), match(h, b))
	}
	long := text(4, 9)
	if got := put(t, h, long, 0); len(got) != 6 || match(h, long) != 6 {
		t.Errorf("pages %v of a text longer than the memory, %d known", got, match(h, long))
	}
}

func BenchmarkMatch(b *testing.B) {
	h := newHost(b, 64)
	tokens := text(1, 32)
	c := chain(tokens)
	h.Put(root, c, 0, tokens)
	b.ReportAllocs()
	for b.Loop() {
		h.Match(c, tokens)
	}
}
