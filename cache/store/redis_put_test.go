package store

import (
	"sync/atomic"
	"testing"
	"time"

	"llamero/cache/store/storetest"
)

// A page that was written or read is not written again, until it is known to have
// gone.
func TestHotPagesAreWrittenOnce(t *testing.T) {
	r, m := redisPair(t, nil)
	pages := chain(1, 4)
	storetest.Store(t, r, pages[:2])
	other := open(t, testOptions("redis://"+m.Addr()))
	storetest.Store(t, other, pages[2:])
	storetest.Get(t, r, pages)
	released := 0
	for range 10 {
		for _, p := range pages {
			r.Put(p.Address, p.Tokens, p.KV, func() { released++ })
		}
	}
	if st := r.Stats(); st.Puts != 2 || st.Skipped != 40 || released != 40 {
		t.Errorf("%d released, %+v", released, st)
	}
	m.FlushAll()
	storetest.Get(t, r, pages)
	storetest.Store(t, r, pages[:1])
}

// The queue is full while Redis takes nothing: what is too much is dropped at once,
// and everything is released.
func TestQueueFull(t *testing.T) {
	s := newSink(t)
	opt := testOptions("redis://" + s.addr)
	opt.Queue, opt.Writers = 3, 2
	r := open(t, opt)
	var released atomic.Int32
	pages := chain(1, 50)
	for _, p := range pages {
		start := time.Now()
		r.Put(p.Address, p.Tokens, p.KV, func() { released.Add(1) })
		if took := time.Since(start); took > time.Second {
			t.Fatalf("Put took %v", took)
		}
	}
	st := r.Stats()
	if st.Dropped["queue"]+st.Dropped["unavailable"] == 0 || st.Queued > opt.Queue {
		t.Errorf("%+v", st)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	st = r.Stats()
	sum := uint64(0)
	for _, n := range st.Dropped {
		sum += n
	}
	if n := released.Load(); int(n) != len(pages) || sum != uint64(len(pages)) || st.Puts != 0 {
		t.Errorf("%d of %d released, %d dropped, %+v", n, len(pages), sum, st)
	}
}

// A page of another size than pages have is a fault of the caller: it is not written.
func TestWrongSizes(t *testing.T) {
	r, m := redisPair(t, nil)
	page := chain(1, 1)[0]
	released := 0
	release := func() { released++ }
	r.Put(page.Address, page.Tokens[1:], page.KV, release)
	r.Put(page.Address, page.Tokens, page.KV[1:], release)
	r.Put(page.Address, page.Tokens, append(page.KV, 0), release)
	if st := r.Stats(); st.Dropped["size"] != 3 || released != 3 || len(m.Keys()) != 0 {
		t.Errorf("%d released, keys %v, %+v", released, m.Keys(), st)
	}
}
