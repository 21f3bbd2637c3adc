package llama

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What llama.cpp v0.5.0 writes for a sequence, all little-endian:
//
//	u32 magic, i32 sequence
//	u32 streams; for each
//	  u32 cells; unless 0
//	    for each cell: i32 position, u32 1, i32 sequence
//	    u32 V is transposed (0), u32 layers
//	    for each layer: i32 type of K, u64 bytes of a row, rows in the order of cells
//	    for each layer: i32 type of V, u64 bytes of a row, rows in the order of cells
//
// Models with a sliding window or with recurrent layers write something else.

// stateForm is the state of a sequence with its tokens taken out: what is the same
// for every sequence of a context. A page is the rows of some consecutive tokens,
// one part after the other; so many bytes a token in all.
type stateForm struct {
	before []byte // up to the count of cells of the first stream
	parts  []statePart
	after  []byte // behind the last part: the counts of the other streams
	row    int    // bytes of a token in all parts
}

// statePart is one layer's K or V.
type statePart struct {
	head []byte // what stands before the rows
	row  int    // bytes of a token
}

const cellMeta = 12 // bytes

var errState = errors.New("the library writes the state of a sequence in another form")

// reader takes numbers off a blob; past its end it gives zeros and remembers.
type reader struct {
	b     []byte
	at    int
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b)-r.at {
		r.short = true
		r.at = len(r.b)
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// readForm learns the form from the state of a sequence of n tokens in the first
// stream.
func readForm(state []byte, n int) (*stateForm, error) {
	r := &reader{b: state}
	r.u32() // magic
	r.u32() // sequence
	streams := r.u32()
	if streams == 0 || streams > 256 {
		return nil, fmt.Errorf("%w: %d streams", errState, streams)
	}
	f := &stateForm{}
	for s := range streams {
		start := r.at
		cells := int(r.u32())
		if s > 0 {
			if cells != 0 {
				return nil, fmt.Errorf("%w: stream %d has %d cells", errState, s, cells)
			}
			continue
		}
		if cells != n {
			return nil, fmt.Errorf("%w: %d cells for %d tokens", errState, cells, n)
		}
		f.before = append([]byte{}, state[:start]...)
		r.take(cells * cellMeta)
		head := r.at
		if trans, layers := r.u32(), int(r.u32()); trans != 0 || layers < 1 || layers > 1<<16 {
			return nil, fmt.Errorf("%w: V transposed %d, %d layers", errState, trans, layers)
		} else {
			for range 2 * layers {
				r.u32() // type
				row := r.u64()
				if row == 0 || row > 1<<30 || r.short {
					return nil, fmt.Errorf("%w: rows of %d bytes", errState, row)
				}
				f.parts = append(f.parts, statePart{head: append([]byte{}, state[head:r.at]...), row: int(row)})
				f.row += int(row)
				r.take(cells * int(row))
				head = r.at
			}
		}
		f.after = append([]byte{}, state[r.at:]...)
	}
	if r.short || r.at != len(state) {
		return nil, fmt.Errorf("%w: %d bytes of %d were read", errState, r.at, len(state))
	}
	return f, nil
}

// size is that of the state of a sequence of n tokens.
func (f *stateForm) size(n int) int {
	size := len(f.before) + 4 + n*cellMeta + n*f.row + len(f.after)
	for i := range f.parts {
		size += len(f.parts[i].head)
	}
	return size
}

// stateView is the state of a sequence, whichever stream it is in.
type stateView struct {
	form  *stateForm
	state []byte
	n     int   // tokens
	rows  int   // where the parts begin
	order []int // which cell holds each position; nil: cell i holds position i, as it mostly is
}

// view reads the state of a sequence of n tokens.
func (f *stateForm) view(state []byte, n int) (v stateView, err error) {
	if len(state) != f.size(n) {
		return v, fmt.Errorf("%w: %d bytes for %d tokens", errState, len(state), n)
	}
	// The counts of empty streams stand before that of the sequence's own.
	r := &reader{b: state, at: len(f.before)}
	cells := 0
	for skipped := 0; cells == 0 && skipped <= len(f.after); skipped += 4 {
		cells = int(r.u32())
	}
	if cells != n {
		return v, fmt.Errorf("%w: %d cells for %d tokens", errState, cells, n)
	}
	metas := r.take(n * cellMeta)
	order := make([]int, n)
	for i := range order {
		order[i] = -1
	}
	straight := true
	for cell := range n {
		pos := int(int32(binary.LittleEndian.Uint32(metas[cell*cellMeta:])))
		if pos < 0 || pos >= n || order[pos] >= 0 {
			return v, fmt.Errorf("%w: position %d of %d", errState, pos, n)
		}
		order[pos] = cell
		straight = straight && pos == cell
	}
	if straight {
		order = nil
	}
	return stateView{f, state, n, r.at, order}, nil
}

// cut copies the rows of so many tokens from first on into a page.
func (v *stateView) cut(page []byte, first, tokens int) {
	at := v.rows
	for i := range v.form.parts {
		p := &v.form.parts[i]
		at += len(p.head)
		if v.order == nil {
			copy(page, v.state[at+first*p.row:at+(first+tokens)*p.row])
		} else {
			for t := range tokens {
				cell := v.order[first+t]
				copy(page[t*p.row:(t+1)*p.row], v.state[at+cell*p.row:])
			}
		}
		page = page[tokens*p.row:]
		at += v.n * p.row
	}
}

// assemble writes the state of a sequence whose tokens stand in pages of so many
// tokens each. state has the right size.
func (f *stateForm) assemble(state []byte, pages [][]byte, tokens int) {
	n := len(pages) * tokens
	at := copy(state, f.before)
	binary.LittleEndian.PutUint32(state[at:], uint32(n))
	at += 4
	for pos := range n {
		binary.LittleEndian.PutUint32(state[at:], uint32(pos))
		binary.LittleEndian.PutUint32(state[at+4:], 1)
		binary.LittleEndian.PutUint32(state[at+8:], 0) // whose it was is not looked at
		at += cellMeta
	}
	done := 0 // of a page
	for i := range f.parts {
		p := &f.parts[i]
		at += copy(state[at:], p.head)
		for _, page := range pages {
			at += copy(state[at:], page[done:done+tokens*p.row])
		}
		done += tokens * p.row
	}
	copy(state[at:], f.after)
}
