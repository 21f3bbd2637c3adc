package cache_test

import (
	"slices"
	"testing"

	"llamero/cache"
)

// What one engine writes is nobody else's until it is there, and nobody's if the engine
// is lost.
func TestViewWrites(t *testing.T) {
	one := newHost(t, 12)
	two := one.Host.View()
	a := text(1, 3)
	put(t, one, a, 0)
	if n := match(one, a); n != 3 {
		t.Errorf("the writer knows %d pages", n)
	}
	if n, m := match(two, a), one.Host.Match(chain(a), a); n != 0 || m != 0 {
		t.Errorf("others know %d and %d pages that are not there yet", n, m)
	}
	if n := two.Coming(chain(a)); n != 3 || one.Coming(chain(a)) != 0 {
		t.Errorf("%d pages are coming to the other, %d to the writer", n, one.Coming(chain(a)))
	}
	// Nor may anybody go on behind them, or write them too.
	long := slices.Concat(a, text(2, 1))
	if got := put(t, two, long, 0); len(got) != 0 {
		t.Errorf("pages %v behind what is not there", got)
	}
	one.Lost()
	if n := match(one, a); n != 0 || two.Coming(chain(a)) != 0 || one.Check() != nil {
		t.Errorf("%d pages of a lost engine's are known: %v", n, one.Check())
	}
	if got := put(t, two, long, 0); len(got) != 4 {
		t.Errorf("pages %v", got)
	}
	two.Landed()
	if n, m := match(one, long), one.Host.Match(chain(long), long); n != 4 || m != 4 {
		t.Errorf("%d and %d pages known of those that are there", n, m)
	}
	if st := two.Stats(); st.Used != 4 || st.Evictions != 0 {
		t.Errorf("%+v", st)
	}
}

// What one engine reads stays where it is, whoever wants room.
func TestViewReads(t *testing.T) {
	one := newHost(t, 4)
	two := one.Host.View()
	a := text(1, 2)
	put(t, one, a, 0)
	one.Landed()
	one.Use(chain(a))
	one.Use(chain(a)[:1]) // for two slots
	big := text(2, 4)
	if got := put(t, two, big, 0); len(got) != 2 || match(one, a) != 2 {
		t.Errorf("pages %v while two of four are read", got)
	}
	two.Landed()
	one.Landed()
	if got := put(t, two, text(3, 4), 0); len(got) != 4 || match(one, a) != 0 {
		t.Errorf("pages %v when nobody reads", got)
	}
	// What the other writes does not go either; what the same one does may.
	if got := put(t, one, a, 0); len(got) != 0 {
		t.Errorf("pages %v where another writes", got)
	}
	if got := put(t, two, big, 0); len(got) != 4 {
		t.Errorf("pages %v of the writer's own", got)
	}
	two.Lost()
	if st := one.Stats(); st.Used != 0 || one.Check() != nil {
		t.Errorf("%+v after all was lost: %v", st, one.Check())
	}
}

// FuzzHost compares the account, of one or more engines, with a dumb one: what each
// page holds, who reads it and who writes it. Whatever is known must be a prefix and be
// there, and no page is given out that another engine reads or writes.
func FuzzHost(f *testing.F) {
	f.Add([]byte{5, 0, 0, 1, 3, 0, 2, 3, 1, 1, 2, 2, 0})
	f.Add([]byte{2, 0, 0, 9, 9, 0, 8, 9, 0, 7, 9, 2, 1, 0, 9, 9})
	f.Add([]byte{6, 1, 0, 1, 3, 0, 3, 1, 1, 1, 3, 1, 4, 0, 0, 2, 0, 1, 0, 3, 3, 1, 2, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b)
		}
		size := 1 + next()%12
		views := []*cache.View{newHost(t, size)}
		for range next() % 3 {
			views = append(views, views[0].Host.View())
		}
		holds := map[int32]cache.Address{}            // what was written where, or is to be
		writing := make([]map[int32]bool, len(views)) // pages that are not there yet
		reading := make([]map[int32]bool, len(views))
		for i := range views {
			writing[i], reading[i] = map[int32]bool{}, map[int32]bool{}
		}
		for len(data) > 0 {
			who := next() % len(views)
			h := views[who]
			switch op := next() % 4; op {
			case 0, 1:
				seed, n := next(), next()%8
				tokens := text(uint64(seed%5), n)
				if seed >= 128 && n > 1 { // leave the common way after a page
					tokens = slices.Concat(tokens[:pageTokens], text(uint64(seed), n-1))
				}
				c := chain(tokens)
				known := h.Match(c, tokens)
				if op == 1 {
					for i, page := range h.Use(c[:known]) {
						if holds[page] != c[i] {
							t.Fatalf("page %d holds %s, not %s", page, holds[page], c[i])
						}
						for other := range views {
							if other != who && writing[other][page] {
								t.Fatalf("page %d is read while another writes it", page)
							}
						}
						reading[who][page] = true
					}
					continue
				}
				first := min(known, next()%8)
				coming := h.Coming(c[known:])
				pages := h.Put(root, c, first, tokens)
				for i, page := range pages {
					if (page < 0) != (first+i < known) {
						t.Fatalf("page %d of %d known is %d", first+i, known, page)
					}
					if page < 0 {
						continue
					}
					for other := range views {
						if reading[other][page] || other != who && writing[other][page] {
							t.Fatalf("page %d is given out while it is in use", page)
						}
					}
					holds[page] = c[first+i]
					writing[who][page] = true
				}
				if want := min(n, size); len(views) == 1 && len(reading[0]) == 0 && first+len(pages) < want {
					t.Fatalf("%d pages of %d are there; the memory has %d", first+len(pages), n, size)
				}
				if coming > 0 && first+len(pages) > known {
					t.Fatalf("%d pages were put over those that another writes", len(pages))
				}
				if got := h.Match(c, tokens); got != first+len(pages) && len(pages) > 0 {
					t.Fatalf("%d pages known after %d were put", got, first+len(pages))
				}
			case 2:
				h.Landed()
				clear(writing[who])
				clear(reading[who])
			case 3:
				h.Lost()
				clear(writing[who])
				clear(reading[who])
			}
			if err := h.Check(); err != nil {
				t.Fatal(err)
			}
			if st := h.Stats(); st.Used > st.Pages {
				t.Fatal(st)
			}
		}
	})
}
