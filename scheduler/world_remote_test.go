package scheduler

import (
	"slices"

	"llamero/cache"
)

// remoteTier is a world's part of a tier that it shares with others: where pages go
// that have been saved, and where they are looked for. The zero value has none.
type remoteTier struct {
	remote  map[cache.Address][]byte
	shelf   []cache.Address // what has come there, in order, perhaps more than once
	fetches []fetch         // under way until arrive
	writes  []write         // under way, the oldest first

	// spoiled are those of remote that are not what was written there. A tier promises
	// to see that and gives only what is before it, unless it is credulous.
	spoiled   map[cache.Address]bool
	credulous bool

	writeLag  int         // turns that a page's memory is read for; 0: it is read at once
	writeRoom int         // writes that may be under way; the others are dropped; 0: any number
	release   func(int32) // lets go of a page that has been read; nil: Unpin
}

type fetch struct {
	id   ID
	want []cache.Wanted
}

type write struct {
	page    int32
	address cache.Address
	due     int // the turn in which it is done
}

// look begins to look for a request's pages in the remote tier.
func (w *world) look(id ID) {
	if w.remote == nil {
		return
	}
	if want := w.s.Fetch(id, 0); want != nil {
		w.fetches = append(w.fetches, fetch{id, want})
	}
}

// arrive ends the first fetch; it finds at most so many pages.
func (w *world) arrive(most int) {
	if len(w.fetches) == 0 {
		return
	}
	f := w.fetches[0]
	w.fetches = w.fetches[1:]
	w.answer(f, most)
}

// answer tells the scheduler what has been found, which is at most so many pages.
func (w *world) answer(f fetch, most int) (found int) {
	for found < min(most, len(f.want)) {
		a := f.want[found].Address
		if w.remote[a] == nil || w.spoiled[a] && !w.credulous {
			break
		}
		found++
	}
	for i, page := range w.s.Fetched(f.id, found) {
		if page >= 0 {
			copy(w.page(page), w.remote[f.want[i].Address])
		}
	}
	w.s.Stored()
	return found
}

func (w *world) page(i int32) []byte {
	l := w.f.Limits()
	return l.Page(w.f.Memory, i)
}

// publish hands the remote tier what has been saved, and does the writes that are due.
func (w *world) publish() {
	for _, page := range w.s.Saved() {
		a := w.s.cfg.Pages.Pin(page).Address
		if w.writeRoom > 0 && len(w.writes) >= w.writeRoom {
			w.unpin(page)
			continue
		}
		w.writes = append(w.writes, write{page, a, w.turn + w.writeLag})
	}
	w.write()
}

// write does the writes that are due: their memory is read as late as may be.
func (w *world) write() {
	for len(w.writes) > 0 && w.writes[0].due <= w.turn {
		x := w.writes[0]
		w.writes = w.writes[1:]
		w.stock(x.address, slices.Clone(w.page(x.page)))
		w.unpin(x.page)
	}
}

// stock puts a page into the remote tier.
func (w *world) stock(a cache.Address, page []byte) {
	if w.remote[a] == nil {
		w.shelf = append(w.shelf, a)
	}
	w.remote[a] = page
	delete(w.spoiled, a)
}

// forget loses one.
func (w *world) forget(a cache.Address) {
	delete(w.remote, a)
	delete(w.spoiled, a)
}

func (w *world) unpin(page int32) {
	if w.release != nil {
		w.release(page)
		return
	}
	w.s.cfg.Pages.Unpin(page)
}
