package llama

import "testing"

// TestThreads: threads are kept where there is more than the one that asks.
func TestThreads(t *testing.T) {
	lib, _ := files(t)
	if err := load(lib); err != nil {
		t.Fatal(err)
	}
	for n, kept := range map[int]bool{1: false, 2: true, 3: true} {
		x, err := newThreads(n)
		if err != nil {
			t.Fatal(err)
		}
		if x.n != n || (x.pool != 0) != kept {
			t.Errorf("%d threads: %d, kept %v", n, x.n, x.pool != 0)
		}
		x.end()
		if x.pool != 0 {
			t.Error("still there after their end")
		}
	}
	x, err := newThreads(0)
	if err != nil || x.n < 1 {
		t.Errorf("%d threads by default: %v", x.n, err)
	}
	x.end()
}
