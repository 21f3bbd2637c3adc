package engine

import (
	"math/rand/v2"
	"testing"
)

// numbered is a pool in which every cell has a number.
type numbered struct {
	slots  [][]int
	next   int
	shares bool
}

func (m *numbered) used() int {
	seen := map[int]bool{}
	for _, s := range m.slots {
		for _, id := range s {
			seen[id] = true
		}
	}
	return len(seen)
}

func (m *numbered) grow(slot, n int) {
	for range n {
		m.next++
		m.slots[slot] = append(m.slots[slot], m.next)
	}
}

// checkCells runs operations, each of three numbers, on both and compares them.
func checkCells(t *testing.T, layout Layout, ops []byte) {
	const slots = 5
	c, m := NewCells(layout, slots), &numbered{slots: make([][]int, slots), shares: layout == Unified}
	for ; len(ops) >= 3; ops = ops[3:] {
		slot, to := int(ops[1]%slots), int(ops[2]%slots)
		have := len(m.slots[slot])
		switch n := int(ops[2] / slots); ops[0] % 4 {
		case 0:
			c.Grow(int32(slot), n)
			m.grow(slot, n)
		case 1:
			if len(m.slots[to]) > 0 || slot == to || have == 0 {
				continue
			}
			n = 1 + n%have
			c.Fork(int32(slot), int32(to), n)
			if m.shares {
				m.slots[to] = append([]int(nil), m.slots[slot][:n]...)
			} else {
				m.grow(to, n)
			}
		case 2:
			n %= have + 1
			c.Cut(int32(slot), n)
			m.slots[slot] = m.slots[slot][:n:n]
		case 3:
			if len(m.slots[to]) > 0 || slot == to {
				continue
			}
			c.Move(int32(slot), int32(to))
			m.slots[to], m.slots[slot] = m.slots[slot], nil
		}
		if c.Used() != m.used() {
			t.Fatalf("%d cells counted, %d in use", c.Used(), m.used())
		}
		for i := range m.slots {
			n := c.slots[i].own
			for _, s := range c.slots[i].spans {
				if s.cells <= 0 || s.holders <= 0 {
					t.Fatalf("slot %d holds a span of %d cells with %d holders", i, s.cells, s.holders)
				}
				n += s.cells
			}
			if n != len(m.slots[i]) {
				t.Fatalf("slot %d: %d cells counted, it holds %d", i, n, len(m.slots[i]))
			}
		}
	}
}

func TestCells(t *testing.T) {
	for _, layout := range []Layout{Split, Unified} {
		for seed := range uint64(300) {
			r := rand.New(rand.NewPCG(seed, 1))
			ops := make([]byte, 3*200)
			for i := range ops {
				ops[i] = byte(r.Uint32())
			}
			checkCells(t, layout, ops)
		}
	}
}

func FuzzCells(f *testing.F) {
	f.Add([]byte{0, 0, 50, 1, 0, 11, 0, 1, 20, 1, 1, 22, 2, 0, 30, 3, 1, 3})
	f.Fuzz(func(t *testing.T, ops []byte) { checkCells(t, Unified, ops[:min(len(ops), 3000)]) })
}
