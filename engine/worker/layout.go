package worker

import "os"

// layout says where pages are. A child maps the slab, which it may only read, and
// behind it, from the system's next page on, the ring. Its engine takes both for one
// memory of pages, and its numbers for them run on; the ring may begin in the middle
// of such a page, so that its first whole one comes a little later. Both sides
// compute the layout from the same sizes.
type layout struct {
	pageBytes int64
	pages     int32 // of the slab
	first     int32 // the engine's number of the ring's first page
	slots     int32 // pages of the ring
	offset    int64 // bytes of the ring before its first page
}

// reserved is what the slab takes of a child's addresses.
func reserved(slab int64) int64 {
	unit := int64(os.Getpagesize())
	return (slab + unit - 1) / unit * unit
}

func newLayout(slab, ring, pageBytes int64) layout {
	start := reserved(slab)
	first := (start + pageBytes - 1) / pageBytes
	l := layout{pageBytes: pageBytes, pages: int32(slab / pageBytes), first: int32(first), offset: first*pageBytes - start}
	l.slots = int32(max(0, ring-l.offset) / pageBytes)
	return l
}

// slot is a page of the ring.
func (l *layout) slot(ring []byte, i int32) []byte {
	at := l.offset + int64(i)*l.pageBytes
	return ring[at : at+l.pageBytes : at+l.pageBytes]
}

// Memory is memory that a child can map. The zero value is none.
type Memory struct {
	File  *os.File // what the child maps
	Bytes []byte   // what the gateway has mapped
}
