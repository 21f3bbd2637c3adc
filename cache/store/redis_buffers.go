package store

import "sync"

const (
	// replySlack is room behind a value: for the byte that shows that it is too long, and
	// for the end of the line, which is then read along with it.
	replySlack = 3
	// readyBytes is how much memory for values is kept, and touched before it is wanted.
	// Where memory is new to a virtual machine, to read 18 MB from Redis took 77 ms, of
	// which 55 ms went to getting it.
	readyBytes = 32 << 20
	mostReady  = 256 // buffers, of small pages
)

// buffers are memory that values are read into. It is safe for concurrent use.
type buffers struct {
	size int // of each
	most int // that are kept

	mu   sync.Mutex
	free [][]byte
}

func newBuffers(size int) *buffers {
	return &buffers{size: size, most: min(max(1, readyBytes/size), mostReady)}
}

// ready makes all that are kept.
func (b *buffers) ready() {
	for range b.most {
		buf := make([]byte, b.size)
		clear(buf) // takes it from the system
		b.give([][]byte{buf})
	}
}

// take returns n buffers, with what they held before.
func (b *buffers) take(n int) [][]byte {
	out := make([][]byte, 0, n)
	b.mu.Lock()
	kept := max(0, len(b.free)-n)
	out = append(out, b.free[kept:]...)
	clear(b.free[kept:])
	b.free = b.free[:kept]
	b.mu.Unlock()
	for len(out) < n {
		out = append(out, make([]byte, b.size))
	}
	return out
}

// give takes buffers back, or the beginnings of some.
func (b *buffers) give(bufs [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, buf := range bufs {
		if len(b.free) < b.most && cap(buf) >= b.size {
			b.free = append(b.free, buf[:b.size])
		}
	}
}
