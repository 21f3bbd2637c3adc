package store

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"llamero/cache"
)

const (
	dirTokens = 4
	dirBytes  = 100
	dirPages  = 6
)

var dirRoot = cache.Root("dir test")

// dirText is n pages of tokens.
func dirText(seed, n int) []cache.Token {
	out := make([]cache.Token, n*dirTokens)
	for i := range out {
		out[i] = cache.Token(seed*1000 + i)
	}
	return out
}

// openDir opens a folder as a gateway would, and the account of what it holds.
func openDir(t *testing.T, path string, identity cache.Address) (*Dir, *cache.Host, int) {
	t.Helper()
	d, err := OpenDir(path, dirPages*dirBytes+17)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := d.Load(identity, dirTokens, dirBytes, dirPages)
	if err != nil {
		t.Fatal(err)
	}
	lru, err := NewLRU(dirPages)
	if err != nil {
		t.Fatal(err)
	}
	h := cache.NewHost(dirPages, dirTokens, lru)
	n := h.Load(entries)
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	return d, h, n
}

// fill is what a page of a chain is filled with.
func fill(a cache.Address) []byte { return bytes.Repeat(a[:10], dirBytes/10) }

// keep puts a text into the account and the folder, as a loop does.
func keep(t *testing.T, d *Dir, h *cache.Host, tokens []cache.Token) {
	t.Helper()
	chain := cache.Chain(dirRoot, nil, tokens, dirTokens)
	var written sync.WaitGroup
	view := h.View()
	defer view.Landed()
	for i, p := range view.Put(dirRoot, chain, 0, tokens) {
		if p < 0 {
			continue
		}
		if err := d.Clear(p); err != nil {
			t.Fatal(err)
		}
		copy(d.Memory()[int(p)*dirBytes:], fill(chain[i]))
		written.Add(1)
		d.Put(h.Pin(p), func() { h.Unpin(p); written.Done() })
		written.Wait()
	}
}

// known counts the pages of a text that are there, and looks into them.
func known(t *testing.T, d *Dir, h *cache.Host, tokens []cache.Token) int {
	t.Helper()
	chain := cache.Chain(dirRoot, nil, tokens, dirTokens)
	n := h.Match(chain, tokens)
	view := h.View()
	defer view.Landed()
	for i, p := range view.Use(chain[:n]) {
		if !bytes.Equal(d.page(p), fill(chain[i])) {
			t.Errorf("page %d holds something else", i)
		}
	}
	return n
}

func closeDir(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDirKeepsPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	a, b := dirText(1, 3), dirText(2, 2)
	d, h, n := openDir(t, path, dirRoot)
	if n != 0 {
		t.Errorf("%d pages in a new folder", n)
	}
	keep(t, d, h, a)
	keep(t, d, h, b)
	if _, err := OpenDir(path, 1000); err == nil {
		t.Error("a folder was opened twice")
	}
	closeDir(t, d)

	d, h, n = openDir(t, path, dirRoot)
	if n != 5 || known(t, d, h, a) != 3 || known(t, d, h, b) != 2 {
		t.Errorf("%d pages came back: %d and %d", n, known(t, d, h, a), known(t, d, h, b))
	}
	// What is overwritten is forgotten, what is new is kept.
	keep(t, d, h, dirText(3, 4))
	closeDir(t, d)
	d, h, _ = openDir(t, path, dirRoot)
	if known(t, d, h, dirText(3, 4)) != 4 {
		t.Error("the latest text is not there")
	}
	closeDir(t, d)
}

// What is damaged, torn or of something else is not there, with all that follows it;
// the rest is.
func TestDirDamage(t *testing.T) {
	a, b := dirText(1, 3), dirText(2, 2)
	flip := func(name string, at int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(filepath.Join(path, name), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var c [1]byte
			if _, err := f.ReadAt(c[:], at); err != nil {
				t.Fatal(err)
			}
			c[0] ^= 4
			if _, err := f.WriteAt(c[:], at); err != nil {
				t.Fatal(err)
			}
		}
	}
	recordAt := func(page int) int64 { return int64(dirHeader) + int64(page)*int64(recordMeta+4*dirTokens) }
	for _, c := range []struct {
		name     string
		damage   func(t *testing.T, path string)
		identity cache.Address
		a, b     int
	}{
		{"nothing", nil, dirRoot, 3, 2},
		{"a page", flip(memoryFile, 1*dirBytes+50), dirRoot, 1, 2},
		{"a first page", flip(memoryFile, 3*dirBytes), dirRoot, 3, 0},
		{"a record's checksum", flip(indexFile, recordAt(2)), dirRoot, 2, 2},
		{"a record's tokens", flip(indexFile, recordAt(2)+int64(recordMeta)), dirRoot, 2, 2},
		{"the header", flip(indexFile, 20), dirRoot, 0, 0},
		{"the index's end", func(t *testing.T, path string) {
			if err := os.Truncate(filepath.Join(path, indexFile), 100); err != nil {
				t.Fatal(err)
			}
		}, dirRoot, 0, 0},
		{"the memory", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Join(path, memoryFile)); err != nil {
				t.Fatal(err)
			}
		}, dirRoot, 0, 0},
		{"another model's", nil, cache.Root("another"), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir()
			d, h, _ := openDir(t, path, dirRoot)
			keep(t, d, h, a)
			keep(t, d, h, b)
			closeDir(t, d)
			if c.damage != nil {
				c.damage(t, path)
			}
			d, h, n := openDir(t, path, c.identity)
			if got := [2]int{known(t, d, h, a), known(t, d, h, b)}; got != [2]int{c.a, c.b} || n != c.a+c.b {
				t.Errorf("%v pages known, %d taken; want %d and %d", got, n, c.a, c.b)
			}
			// It goes on from there.
			keep(t, d, h, a)
			closeDir(t, d)
			d, h, _ = openDir(t, path, c.identity)
			if n := known(t, d, h, a); n != 3 {
				t.Errorf("%d pages known afterwards", n)
			}
			closeDir(t, d)
		})
	}
}

// A page that was being overwritten when the process died is not there.
func TestDirTornPage(t *testing.T) {
	path := t.TempDir()
	d, h, _ := openDir(t, path, dirRoot)
	a := dirText(1, 3)
	keep(t, d, h, a)
	chain := cache.Chain(dirRoot, nil, a, dirTokens)
	last := h.View().Use(chain)[2]
	if err := d.Clear(last); err != nil {
		t.Fatal(err)
	}
	closeDir(t, d) // before it was written down again
	d, h, _ = openDir(t, path, dirRoot)
	if n := known(t, d, h, a); n != 2 {
		t.Errorf("%d pages known, want 2", n)
	}
	closeDir(t, d)
}

// The order in which pages were written is the order in which they go.
func TestDirOrder(t *testing.T) {
	path := t.TempDir()
	d, h, _ := openDir(t, path, dirRoot)
	for seed := range 6 {
		keep(t, d, h, dirText(seed, 1))
	}
	closeDir(t, d)
	d, h, _ = openDir(t, path, dirRoot)
	keep(t, d, h, dirText(9, 2))
	var there []int
	for seed := range 6 {
		if known(t, d, h, dirText(seed, 1)) == 1 {
			there = append(there, seed)
		}
	}
	if !slices.Equal(there, []int{2, 3, 4, 5}) {
		t.Errorf("%v are there", there)
	}
	closeDir(t, d)
}

func TestDirRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(file, 1000); err == nil {
		t.Error("a file was opened as a folder")
	}
	if _, err := OpenDir(t.TempDir(), 0); err == nil {
		t.Error("no memory was mapped")
	}
	d, err := OpenDir(t.TempDir(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(dirRoot, 4, 100, 11); err == nil {
		t.Error("more pages than memory")
	}
	closeDir(t, d)
}
