package worker

import (
	"encoding/binary"

	"llamero/engine"
)

// What a row of output has besides its slot.
const (
	outSampled = 1 << iota
	outScores
	outDrafted
	outRead
)

// The fewest bytes of each.
const (
	leastOut     = 2
	leastSampled = 6
	leastTop     = 5
	leastSaved   = 6
)

// appendOutput encodes what a pass gave. How many drawn tokens and alternatives there
// are in all stands in front, so that the other side takes memory for all rows at once.
func appendOutput(b []byte, o *engine.Output) []byte {
	sampled, tops := 0, 0
	for i := range o.Rows {
		r := &o.Rows[i]
		sampled += len(r.Sampled) + len(r.Scores)
		for _, list := range [2][]engine.Sampled{r.Sampled, r.Scores} {
			for j := range list {
				tops += len(list[j].Top)
			}
		}
	}
	b = appendUvarint(b, o.Step)
	b = appendInt(b, int64(o.Pass))
	b = appendInt(b, o.Nanos)
	b = appendInt(b, o.EditNanos)
	b = appendInt(b, o.DraftNanos)
	b = appendUvarint(b, uint64(len(o.Rows)))
	b = appendUvarint(b, uint64(sampled))
	b = appendUvarint(b, uint64(tops))
	for i := range o.Rows {
		r := &o.Rows[i]
		mask := byte(0)
		if len(r.Sampled) > 0 {
			mask |= outSampled
		}
		if len(r.Scores) > 0 {
			mask |= outScores
		}
		if len(r.Drafted) > 0 {
			mask |= outDrafted
		}
		if r.Read != 0 {
			mask |= outRead
		}
		b = append(b, mask)
		b = appendInt(b, int64(r.Slot))
		if mask&outSampled != 0 {
			b = appendSampled(b, r.Sampled)
		}
		if mask&outScores != 0 {
			b = appendSampled(b, r.Scores)
		}
		if mask&outDrafted != 0 {
			b = appendTokens(b, r.Drafted)
		}
		if mask&outRead != 0 {
			b = appendInt(b, int64(r.Read))
		}
	}
	return b
}

func appendSampled(b []byte, list []engine.Sampled) []byte {
	b = appendUvarint(b, uint64(len(list)))
	for i := range list {
		s := &list[i]
		b = appendFloat(appendToken(b, s.Token), s.LogProb)
		b = appendUvarint(b, uint64(len(s.Top)))
		for _, t := range s.Top {
			b = appendFloat(appendToken(b, t.Token), t.LogProb)
		}
	}
	return b
}

// decodeOutput returns an output with memory of its own. Empty slices come back nil.
func decodeOutput(b []byte) (engine.Output, error) {
	d := decoder{b: b}
	o := engine.Output{Step: d.uvarint(), Pass: int(d.int64()), Nanos: d.int64(), EditNanos: d.int64(), DraftNanos: d.int64()}
	rows := d.count(leastOut)
	m := sampledMemory{}
	if n := d.count(leastSampled); n > 0 {
		m.sampled = make([]engine.Sampled, 0, n)
	}
	if n := d.count(leastTop); n > 0 {
		m.tops = make([]engine.TopProb, 0, n)
	}
	if rows > 0 {
		o.Rows = make([]engine.RowOutput, rows)
	}
	for i := range o.Rows {
		r := &o.Rows[i]
		mask := d.byte()
		r.Slot = d.int32()
		if mask&outSampled != 0 {
			r.Sampled = m.list(&d)
		}
		if mask&outScores != 0 {
			r.Scores = m.list(&d)
		}
		if mask&outDrafted != 0 {
			r.Drafted = d.tokens()
		}
		if mask&outRead != 0 {
			r.Read = d.int32()
		}
	}
	if len(m.sampled) != cap(m.sampled) || len(m.tops) != cap(m.tops) {
		d.fail()
	}
	return o, d.end()
}

// sampledMemory is what all rows of an output share: each takes a part of it, which
// cannot grow into the next.
type sampledMemory struct {
	sampled []engine.Sampled
	tops    []engine.TopProb
}

func (m *sampledMemory) list(d *decoder) []engine.Sampled {
	n, first := d.count(leastSampled), len(m.sampled)
	if n == 0 || n > cap(m.sampled)-first {
		if n > 0 {
			d.fail()
		}
		return nil
	}
	for range n {
		s := engine.Sampled{Token: d.token(), LogProb: d.float32()}
		k, at := d.count(leastTop), len(m.tops)
		if k > cap(m.tops)-at {
			d.fail()
			return nil
		}
		for range k {
			m.tops = append(m.tops, engine.TopProb{Token: d.token(), LogProb: d.float32()})
		}
		if k > 0 {
			s.Top = m.tops[at : at+k : at+k]
		}
		m.sampled = append(m.sampled, s)
	}
	return m.sampled[first : first+n : first+n]
}

// savedPage is a page that stands in the ring.
type savedPage struct {
	page int32  // of the slab, where it is to go
	slot int32  // of the ring, where it is
	sum  uint32 // CRC-32C
}

// saved says that a step's edits, or the first of them, are done.
type saved struct {
	pages []savedPage
	// last: all edits are done. Otherwise the ring is full, and the child waits for
	// kindTaken.
	last bool
}

func appendSaved(b []byte, s *saved) []byte {
	last := byte(0)
	if s.last {
		last = 1
	}
	b = append(b, last)
	b = appendUvarint(b, uint64(len(s.pages)))
	for _, p := range s.pages {
		b = appendInt(b, int64(p.page))
		b = appendInt(b, int64(p.slot))
		b = binary.LittleEndian.AppendUint32(b, p.sum)
	}
	return b
}

func decodeSaved(b []byte) (saved, error) {
	d := decoder{b: b}
	s := saved{last: d.byte() == 1}
	if n := d.count(leastSaved); n > 0 {
		s.pages = make([]savedPage, n)
	}
	for i := range s.pages {
		s.pages[i] = savedPage{page: d.int32(), slot: d.int32(), sum: d.uint32()}
	}
	return s, d.end()
}
