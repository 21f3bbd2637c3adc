package raw

import (
	"slices"

	"llamero/engine"
)

const (
	// shortTail is a rest of a prompt below which several share a pass: from 64 rows
	// on a chunk is computed well by itself.
	shortTail = 64
	// widthStep is what CPU kernels work in: a wider pass is rounded up by idle rows.
	widthStep = 4
)

// part is a row of a prompt pass: so many tokens of a slot.
type part struct{ slot, tokens int }

// chunk says what the next prompt pass computes; nothing when no stream is behind.
func (d *driver) chunk(streams []*stream) []part {
	first := slices.IndexFunc(streams, func(s *stream) bool { return s.gap() > 0 })
	if first < 0 {
		return nil
	}
	room := d.limits.PassTokens
	if d.limits.Layout == engine.Unified { // any mix will do
		var parts []part
		for i := first; i < len(streams) && room > 0; i++ {
			if n := min(streams[i].gap(), room); n > 0 {
				parts = append(parts, part{i, n})
				room -= n
			}
		}
		return parts
	}
	// Consecutive slots, the same count of each: as many tokens as possible.
	tokens := min(streams[first].gap(), room)
	rows := 1
	if tokens < shortTail {
		least := tokens
		for i := first + 1; i < len(streams) && streams[i].gap() > 0; i++ {
			least = min(least, streams[i].gap())
			n := i - first + 1
			if n*least > room {
				break
			}
			if n*least > rows*tokens {
				rows, tokens = n, least
			}
		}
	}
	parts := make([]part, rows)
	for i := range parts {
		parts[i] = part{first + i, tokens}
	}
	return parts
}

// decodeRows compute what each stream drew last.
func decodeRows(streams []*stream) []engine.Row {
	rows := make([]engine.Row, len(streams))
	for i, s := range streams {
		n := len(s.answer.Tokens)
		rows[i] = engine.Row{Slot: int32(i), Pos: int32(s.done), Tokens: s.answer.Tokens[n-1 : n : n], Sample: true}
	}
	return rows
}

// idle are the rows that round a decode pass up to a width that costs less. The
// narrowest widths cost what they are.
func (d *driver) idle(live int) []engine.Row {
	n := -live % widthStep
	if n == 0 || live < widthStep || !d.limits.Trims {
		return nil
	}
	n += widthStep
	if d.limits.Layout == engine.Unified {
		if d.limits.Scratch == 0 {
			return nil
		}
		return []engine.Row{{Slot: int32(d.limits.Slots), Tokens: make([]engine.Token, n), Idle: true}}
	}
	var rows []engine.Row
	for i := live; i < live+n && i < d.limits.Slots+d.limits.Scratch; i++ {
		rows = append(rows, engine.Row{Slot: int32(i), Tokens: make([]engine.Token, 1), Idle: true})
	}
	if len(rows) < n {
		return nil
	}
	return rows
}
