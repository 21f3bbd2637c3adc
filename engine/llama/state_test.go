package llama

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// made is the state of a sequence as the library writes it, with rows that are
// told apart: stream says which of so many it is in, cells which position each
// cell holds.
func made(streams, stream int, cells []int, rows []int) []byte {
	var b []byte
	u32 := func(v int) { b = binary.LittleEndian.AppendUint32(b, uint32(v)) }
	u32(0x67676d6c)
	u32(7)
	u32(streams)
	for s := range streams {
		if s != stream {
			u32(0)
			continue
		}
		u32(len(cells))
		for _, pos := range cells {
			u32(pos)
			u32(1)
			u32(7)
		}
		u32(0)
		u32(len(rows) / 2)
		for part, row := range rows {
			u32(1)
			b = binary.LittleEndian.AppendUint64(b, uint64(row))
			for _, pos := range cells {
				for i := range row {
					b = append(b, byte(pos*31+part*7+i))
				}
			}
		}
	}
	return b
}

func straight(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// What is cut out of any stream, in whatever order its cells are, comes together
// again as the state that the first stream would have.
func TestCutAndAssemble(t *testing.T) {
	rows := []int{8, 4, 6, 2} // two layers, whose rows differ
	const tokens, pages = 3, 4
	form, err := readForm(made(5, 0, straight(7), rows), 7)
	if err != nil {
		t.Fatal(err)
	}
	want := made(5, 0, straight(tokens*pages), rows)
	r := rand.New(rand.NewPCG(1, 2))
	for stream := range 5 {
		for range 4 {
			n := tokens*pages + r.IntN(3)
			cells := straight(n)
			r.Shuffle(n, func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
			v, err := form.view(made(5, stream, cells, rows), n)
			if err != nil {
				t.Fatal(err)
			}
			mem := make([][]byte, pages)
			for i := range mem {
				mem[i] = make([]byte, tokens*form.row)
				v.cut(mem[i], i*tokens, tokens)
			}
			got := bytes.Repeat([]byte{0xee}, form.size(tokens*pages))
			form.assemble(got, mem, tokens)
			// Whose the cells were is not looked at when they are read.
			for i := range tokens * pages {
				copy(got[16+i*cellMeta+8:], []byte{7, 0, 0, 0})
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("stream %d, cells %v: another state", stream, cells)
			}
		}
	}
}

func TestReadFormRefuses(t *testing.T) {
	rows := []int{8, 4}
	good := made(2, 0, straight(3), rows)
	change := func(f func(b []byte)) []byte {
		b := slices.Clone(good)
		f(b)
		return b
	}
	for _, c := range []struct {
		name  string
		state []byte
		n     int
	}{
		{"nothing", nil, 3},
		{"other tokens", good, 4},
		{"a byte too few", good[:len(good)-1], 3},
		{"a byte too many", append(slices.Clone(good), 0), 3},
		{"no streams", change(func(b []byte) { b[8] = 0 }), 3},
		{"streams beyond all bounds", change(func(b []byte) { b[11] = 0xff }), 3},
		{"another stream", made(2, 1, straight(3), rows), 3},
		{"V transposed", change(func(b []byte) { b[16+3*cellMeta] = 1 }), 3},
		{"no layers", change(func(b []byte) { b[20+3*cellMeta] = 0 }), 3},
		{"more layers than bytes", change(func(b []byte) { b[21+3*cellMeta] = 0xff }), 3},
		{"rows of no bytes", change(func(b []byte) { b[28+3*cellMeta] = 0 }), 3},
		{"rows beyond all bounds", change(func(b []byte) { b[35+3*cellMeta] = 0x7f }), 3},
	} {
		if form, err := readForm(c.state, c.n); err == nil {
			t.Errorf("%s: read as %+v", c.name, form)
		}
	}
	form, err := readForm(good, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string][]byte{
		"a position twice":       change(func(b []byte) { b[16+cellMeta] = 0 }),
		"a position too far":     change(func(b []byte) { b[16+cellMeta] = 3 }),
		"cells of no stream":     change(func(b []byte) { b[12] = 0 }),
		"another count of bytes": good[4:],
	} {
		if _, err := form.view(state, 3); err == nil {
			t.Errorf("%s: viewed", name)
		}
	}
}
