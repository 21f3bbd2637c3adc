package store

import "testing"

// What is given back is lent again, whole, once; what is too much goes.
func TestBuffers(t *testing.T) {
	b := newBuffers(readyBytes / 3)
	b.ready()
	if len(b.free) != 3 {
		t.Fatalf("%d buffers of a third of the memory", len(b.free))
	}
	first := b.take(4)
	if len(first) != 4 || len(b.free) != 0 {
		t.Fatalf("%d of 4 buffers, %d left", len(first), len(b.free))
	}
	seen := map[*byte]bool{}
	for i, buf := range first {
		if len(buf) != b.size || seen[&buf[0]] {
			t.Errorf("buffer %d has %d bytes of %d, or was lent twice", i, len(buf), b.size)
		}
		seen[&buf[0]] = true
		first[i] = buf[:i] // a reply that was shorter
	}
	b.give(first)
	if len(b.free) != 3 {
		t.Fatalf("%d buffers are kept, want 3", len(b.free))
	}
	for i, buf := range b.take(3) {
		if len(buf) != b.size || !seen[&buf[0]] {
			t.Errorf("buffer %d has %d bytes of %d, or is a new one", i, len(buf), b.size)
		}
	}
	b.give([][]byte{make([]byte, 1)})
	if len(b.free) != 0 {
		t.Error("a buffer that is none of ours is kept")
	}
}
