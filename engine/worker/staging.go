package worker

import (
	"hash/crc32"

	"llamero/engine"
)

// staging turns a plan's edits into those of the child's engine, whose pages are the
// slab's, which it can only read, and the ring's: what is saved goes to the ring, and
// what is restored comes from there if it has been saved in this step.
type staging struct {
	layout
	memory     []byte // of all the engine's pages
	pageTokens int

	part   []engine.Edit   // to be run next
	pages  []int32         // their Pages
	saved  []savedPage     // what they save
	places map[int32]int32 // where saved pages of the slab are now, by the engine's numbers
}

func newStaging(l layout, memory []byte, pageTokens int) *staging {
	return &staging{layout: l, memory: memory, pageTokens: pageTokens, places: make(map[int32]int32)}
}

// reset empties the ring.
func (s *staging) reset() {
	s.part, s.pages, s.saved = s.part[:0], s.pages[:0], s.saved[:0]
	clear(s.places)
}

// add stages an edit that has been checked. flush is called where the ring is full,
// runs what has been staged and empties it; the error is flush's.
func (s *staging) add(e engine.Edit, flush func() error) error {
	switch e.Kind {
	case engine.EditRestore:
		first := len(s.pages)
		for _, p := range e.Pages {
			if place, ok := s.places[p]; ok {
				p = place
			}
			s.pages = append(s.pages, p)
		}
		e.Pages = s.pages[first:len(s.pages):len(s.pages)]
	case engine.EditSave:
		for {
			n := s.fit(e.Pages)
			if n == len(e.Pages) {
				break
			}
			if n > 0 {
				head := e
				head.Pages = s.place(e.Pages[:n])
				s.part = append(s.part, head)
				e.First, e.Pages = e.First+int32(n), e.Pages[n:]
			}
			if err := flush(); err != nil {
				return err
			}
		}
		e.Pages = s.place(e.Pages)
	}
	s.part = append(s.part, e)
	return nil
}

// fit is how many of the pages, from the first on, the ring has room for.
func (s *staging) fit(pages []int32) int {
	room := int(s.slots) - len(s.saved)
	for i, p := range pages {
		if p < 0 {
			continue
		}
		if room == 0 {
			return i
		}
		room--
	}
	return len(pages)
}

// place gives pages that are to be saved a place in the ring.
func (s *staging) place(pages []int32) []int32 {
	first := len(s.pages)
	for _, p := range pages {
		place := int32(-1)
		if p >= 0 {
			slot := int32(len(s.saved))
			s.saved = append(s.saved, savedPage{page: p, slot: slot})
			place = s.first + slot
			s.places[p] = place
		}
		s.pages = append(s.pages, place)
	}
	return s.pages[first:len(s.pages):len(s.pages)]
}

// sums returns what has been saved, with checksums. A page that was saved twice counts
// as it was saved last.
func (s *staging) sums() []savedPage {
	for i := range s.saved {
		p := &s.saved[i]
		at := int64(s.first+p.slot) * s.pageBytes
		p.sum = crc32.Checksum(s.memory[at:at+s.pageBytes], castagnoli)
	}
	return s.saved
}
