package store_test

import (
	"testing"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/cache/store/storetest"
)

func newMemory(t testing.TB, pages int) *store.Memory {
	t.Helper()
	m, err := store.NewMemory(pages)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMemory(t *testing.T) {
	storetest.Remote(t, storetest.Config{
		PageTokens: 4, PageBytes: 64,
		Open: func(t *testing.T) (cache.Remote, func() cache.Remote) {
			m := newMemory(t, 1000)
			return m, func() cache.Remote { return m.View() }
		},
	})
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(t, 3)
	pages := storetest.Chain(1, 5, 4, 64)
	for _, p := range pages {
		m.Put(p.Address, p.Tokens, p.KV, nil)
	}
	if got, _, err := m.Get(t.Context(), storetest.Want(pages[2:])); err != nil || len(got) != 3 || m.Len() != 3 {
		t.Errorf("%d pages, error %v, of a memory of 3 that holds %d", len(got), err, m.Len())
	}
	if _, err := store.NewMemory(0); err == nil {
		t.Error("a memory of no pages")
	}
}
