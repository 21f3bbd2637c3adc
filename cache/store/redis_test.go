package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"llamero/cache"
	"llamero/cache/store/storetest"
)

func TestMiniredis(t *testing.T) {
	m := miniredis.RunT(t)
	storetest.Remote(t, storetest.Config{
		PageTokens: testTokens, PageBytes: testBytes, Open: opener("redis://"+m.Addr()+"/1", nil),
	})
}

func TestRedisServer(t *testing.T) {
	s := startRedis(t)
	t.Run("small pages", func(t *testing.T) {
		storetest.Remote(t, storetest.Config{
			PageTokens: testTokens, PageBytes: testBytes, Open: opener(s.url(), nil),
		})
	})
	// Pages that fill several rounds, and a key that is only the known one.
	t.Run("large pages", func(t *testing.T) {
		storetest.Remote(t, storetest.Config{
			PageTokens: 32, PageBytes: 1 << 20, Open: opener(s.url(), func(o *RedisOptions) {
				o.PageTokens, o.PageBytes, o.Key = 32, 1<<20, nil
			}),
		})
	})
}

// redisPair is a tier on a miniredis, with the server.
func redisPair(t *testing.T, change func(*RedisOptions)) (*Redis, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.RunT(t)
	opt := testOptions("redis://" + m.Addr())
	if change != nil {
		change(&opt)
	}
	return open(t, opt), m
}

func TestTTL(t *testing.T) {
	r, m := redisPair(t, func(o *RedisOptions) { o.TTL = 90 * time.Second })
	page := chain(1, 1)
	storetest.Store(t, r, page)
	if ttl := m.TTL(r.key(page[0].Address)); ttl != 90*time.Second {
		t.Errorf("TTL %v", ttl)
	}
	m.FastForward(91 * time.Second)
	if got := storetest.Get(t, r, page); len(got) != 0 {
		t.Error("the page is there after its time")
	}
	storetest.Store(t, r, page) // though it was written before
	if st := r.Stats(); st.Puts != 2 || st.Misses == 0 {
		t.Errorf("%+v", st)
	}
}

func TestObserver(t *testing.T) {
	type seen struct {
		pages, bytes int
		err          error
	}
	var mu sync.Mutex
	var gets, puts []seen
	r, m := redisPair(t, func(o *RedisOptions) {
		o.Observer = RedisObserver{
			Get: func(took time.Duration, pages int, err error) {
				mu.Lock()
				defer mu.Unlock()
				gets = append(gets, seen{pages: pages, err: err})
			},
			Put: func(took time.Duration, bytes int, err error) {
				mu.Lock()
				defer mu.Unlock()
				puts = append(puts, seen{bytes: bytes, err: err})
			},
		}
	})
	pages := chain(1, 3)
	storetest.Store(t, r, pages)
	mu.Lock()
	gets = nil
	mu.Unlock()
	storetest.Get(t, r, pages)
	m.SetError("ERR out of order")
	if got, _, err := r.Get(t.Context(), storetest.Want(pages)); err == nil || len(got) != 0 {
		t.Errorf("%d pages, error %v", len(got), err)
	}
	other := chain(2, 1)[0]
	r.Put(other.Address, other.Tokens, other.KV, nil)
	storetest.Until(t, "the refusal is seen", func() bool { return r.Stats().Dropped["refused"] == 1 })
	storetest.Until(t, "the write is observed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(puts) == 4
	})
	mu.Lock()
	defer mu.Unlock()
	if len(gets) != 2 || gets[0].pages != 3 || gets[0].err != nil || gets[1].err == nil {
		t.Errorf("gets %+v", gets)
	}
	if puts[0].bytes != r.codec.size() || puts[0].err != nil || puts[3].err == nil {
		t.Errorf("puts %+v", puts)
	}
	if st := r.Stats(); st.Hits < 6 || st.BytesRead != st.Hits*uint64(r.codec.size()) || st.BytesWritten != 3*uint64(r.codec.size()) || st.Errors != 2 {
		t.Errorf("%+v", st)
	}
}

// Neither tiers nor their failures leave goroutines.
func TestNoGoroutineStays(t *testing.T) {
	m := miniredis.RunT(t)
	s := newSink(t)
	before := 0
	for i := range 5 {
		if i == 1 { // the client's package has started what it keeps
			storetest.Until(t, "connections are closed", func() bool { return m.CurrentConnectionCount()+s.connections() == 0 })
			before = runtime.NumGoroutine()
		}
		for _, addr := range []string{m.Addr(), s.addr, "127.0.0.1:1"} {
			r, err := NewRedis(testOptions("redis://" + addr))
			if err != nil {
				t.Fatal(err)
			}
			pages := chain(uint64(i), 3)
			for _, p := range pages {
				r.Put(p.Address, p.Tokens, p.KV, nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, _, _ = r.Get(ctx, storetest.Want(pages)) // whether it succeeds is not the point
			cancel()
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	storetest.Until(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// A Get that Close overtakes ends.
func TestCloseWhileReading(t *testing.T) {
	s := newSink(t)
	r := open(t, testOptions("redis://"+s.addr))
	done := make(chan error)
	go func() {
		_, _, err := r.Get(t.Context(), storetest.Want(chain(1, 2)))
		done <- err
	}()
	storetest.Until(t, "Get is under way", func() bool { return r.Stats().Gets == 1 })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("no error from a tier that was closed")
	} else if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrUnavailable) && !timedOut(err) {
		t.Errorf("error %v", err)
	}
}

// The key of a page says all that tells pages apart.
func TestKeys(t *testing.T) {
	r := open(t, testOptions("redis://127.0.0.1:1"))
	a := cache.Root("x")
	if got, want := r.key(a), fmt.Sprintf("llamero:1:%x", a[:]); got != want {
		t.Errorf("key %q, not %q", got, want)
	}
	if s := r.String(); s != "redis at 127.0.0.1:1" {
		t.Errorf("%q", s)
	}
}

func ExampleRedis_String() {
	r, err := NewRedis(RedisOptions{
		URL: "redis://gateway:hidden@127.0.0.1:6379/2", Key: []byte("at least 16 bytes"), PageTokens: 32, PageBytes: 768 << 10,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	fmt.Println(r)
	// Output: redis at 127.0.0.1:6379/2
}
