package store

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"llamero/cache/store/storetest"
)

// inTime calls Get with a deadline, which must be kept to 50 ms. How late a mere
// timer of the same length comes on this machine at this moment is forgiven.
func inTime(t testing.TB, r *Redis, pages []storetest.Page, deadline time.Duration) (int, error) {
	t.Helper()
	late := make(chan time.Duration, 1)
	start := time.Now()
	time.AfterFunc(deadline, func() { late <- time.Since(start) - deadline })
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	got, _, err := r.Get(ctx, storetest.Want(pages))
	took := time.Since(start)
	storetest.Check(t, got, pages)
	if took > deadline {
		if allowed := deadline + 50*time.Millisecond + <-late; took > allowed {
			t.Errorf("Get took %v of %v", took, allowed)
		}
	}
	return len(got), err
}

const getDeadline = 100 * time.Millisecond

// outage asks until the breaker is open, which must be so within a second of asking,
// then looks that nobody waits any more.
func outage(t *testing.T, r *Redis, pages []storetest.Page) {
	t.Helper()
	asked := time.Now()
	for !r.Stats().Open {
		if n, _ := inTime(t, r, pages, getDeadline); n != 0 {
			t.Fatalf("%d pages of a server that has gone", n)
		}
		if time.Since(asked) > time.Second+getDeadline {
			t.Fatal("the breaker is not open after a second")
		}
	}
	before := r.Stats()
	released := 0
	start := time.Now()
	for range 100 {
		if got, _, err := r.Get(t.Context(), storetest.Want(pages)); len(got) != 0 || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%d pages, error %v", len(got), err)
		}
		p := chain(77, 1)[0]
		r.Put(p.Address, p.Tokens, p.KV, func() { released++ })
	}
	if took := time.Since(start); took > getDeadline {
		t.Errorf("100 calls took %v while the breaker was open", took)
	}
	after := r.Stats()
	if released != 100 || after.Dropped["unavailable"] != before.Dropped["unavailable"]+100 || after.Unavailable != before.Unavailable+100 {
		t.Errorf("%d released, %+v, before %+v", released, after, before)
	}
}

// back waits until the breaker has closed and pages are found or can be written
// again; that takes 2 s at most from when the server is there.
func back(t *testing.T, r *Redis, pages []storetest.Page) {
	t.Helper()
	start := time.Now()
	untilOpen(t, r, false)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the breaker closed only after %v", took)
	}
	storetest.Store(t, r, pages)
}

func TestKilledAndRestarted(t *testing.T) {
	s := startRedis(t)
	r := open(t, testOptions(s.url()))
	pages := chain(1, 5)
	storetest.Store(t, r, pages)
	s.kill()
	outage(t, r, pages)
	if !s.start() {
		t.Fatalf("redis-server does not start again: %s", s.log)
	}
	back(t, r, pages) // it came back empty, and what was written before is written again
}

func TestStoppedAndContinued(t *testing.T) {
	s := startRedis(t)
	r := open(t, testOptions(s.url()))
	pages := chain(1, 5)
	storetest.Store(t, r, pages)
	s.signal(syscall.SIGSTOP)
	outage(t, r, pages)
	s.signal(syscall.SIGCONT)
	untilOpen(t, r, false)
	if n := len(storetest.Get(t, r, pages)); n != len(pages) {
		t.Errorf("%d pages of %d after the server went on", n, len(pages))
	}
	if st := r.Stats(); st.Timeouts == 0 || st.Opened != 1 {
		t.Errorf("%+v", st)
	}
}

// Many requests at once, of which most wait for others: none is late.
func TestStoppedUnderLoad(t *testing.T) {
	s := startRedis(t)
	r := open(t, testOptions(s.url()))
	pages := chain(1, 5)
	storetest.Store(t, r, pages)
	s.signal(syscall.SIGSTOP)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 5 {
				if n, err := inTime(t, r, pages, getDeadline); n != 0 || err == nil {
					t.Errorf("%d pages, error %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	s.signal(syscall.SIGCONT)
	untilOpen(t, r, false)
	if n := len(storetest.Get(t, r, pages)); n != len(pages) {
		t.Errorf("%d pages of %d", n, len(pages))
	}
}

// Callers who leave say nothing of the server, which is only slow for them.
func TestCallersWhoLeave(t *testing.T) {
	s := startRedis(t)
	r := open(t, testOptions(s.url()))
	pages := chain(1, 5)
	storetest.Store(t, r, pages)
	s.signal(syscall.SIGSTOP)
	for range 4 * tripAfter {
		ctx, leave := context.WithCancel(t.Context())
		timer := time.AfterFunc(5*time.Millisecond, leave)
		if got, _, err := r.Get(ctx, storetest.Want(pages)); len(got) != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d pages, error %v", len(got), err)
		}
		timer.Stop()
	}
	s.signal(syscall.SIGCONT)
	if st := r.Stats(); st.Opened != 0 || st.Errors != 0 {
		t.Errorf("%+v", st)
	}
	if n := len(storetest.Get(t, r, pages)); n != len(pages) {
		t.Errorf("%d pages of %d", n, len(pages))
	}
}

// A server that is there from the start but never answers is found out without a
// request, and so is one that is not there.
func TestNotThereFromTheStart(t *testing.T) {
	for name, addr := range map[string]string{"silent": newSink(t).addr, "nothing": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			r := open(t, testOptions("redis://"+addr))
			untilOpen(t, r, true)
			outage(t, r, chain(1, 2))
		})
	}
}

// One request that gets no answer is enough: a probe finds out the rest.
func TestOneFailureOpens(t *testing.T) {
	s := startRedis(t)
	r := open(t, testOptions(s.url()))
	pages := chain(1, 2)
	storetest.Store(t, r, pages)
	s.signal(syscall.SIGSTOP)
	if n, err := inTime(t, r, pages, getDeadline); n != 0 || err == nil {
		t.Fatalf("%d pages of a server that is stopped, error %v", n, err)
	}
	untilOpen(t, r, true)
	s.signal(syscall.SIGCONT)
	untilOpen(t, r, false)
}

// Redis is out of memory: writing is refused and pauses, reading goes on.
func TestOutOfMemory(t *testing.T) {
	s := startRedis(t, "--maxmemory-policy", "noeviction")
	r := open(t, testOptions(s.url()))
	pages := chain(1, 5)
	storetest.Store(t, r, pages)
	c := raw(t, s.addr)
	do(t, c, "CONFIG", "SET", "maxmemory", "1")
	more := chain(2, 30)
	var released atomic.Int32
	for _, p := range more {
		r.Put(p.Address, p.Tokens, p.KV, func() { released.Add(1) })
		if len(storetest.Get(t, r, pages)) != len(pages) {
			t.Fatal("reading stops where writing is refused")
		}
	}
	storetest.Until(t, "all are refused", func() bool { return r.Stats().Dropped["refused"] == uint64(len(more)) })
	if st := r.Stats(); st.Open || st.Opened != 0 || st.Errors >= uint64(len(more)) || released.Load() != int32(len(more)) {
		t.Errorf("%d released, %+v; after the first refusals none is to be sent", released.Load(), st)
	}
	do(t, c, "CONFIG", "SET", "maxmemory", "0")
	storetest.Until(t, "pages are taken again", func() bool {
		p := chain(3, 1)
		r.Put(p[0].Address, p[0].Tokens, p[0].KV, nil)
		return len(storetest.Get(t, r, p)) == 1
	})
}

// Over a link on which not everything comes in time, what comes is used.
func TestSlowLink(t *testing.T) {
	const pageBytes = 64 << 10
	s := startRedis(t)
	opt := testOptions(s.url())
	opt.PageBytes = pageBytes
	pages := storetest.Chain(1, 64, testTokens, pageBytes)
	storetest.Store(t, open(t, opt), pages)

	// 4 MiB in all, of which a deadline's time carries 1.6.
	proxy := newServer(t, func(c net.Conn) {
		up, err := net.Dial("tcp", s.addr)
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(up, c)
			_ = up.Close() // the client has gone, or this end
		}()
		for slice := make([]byte, 16<<10); ; {
			n, err := up.Read(slice)
			if err != nil {
				return
			}
			if _, err := c.Write(slice[:n]); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // the link's slowness
		}
	})
	opt.URL = "redis://" + proxy.addr
	r := open(t, opt)
	untilGreeted(t, r)
	total, cut := 0, 0
	for range 5 {
		n, err := inTime(t, r, pages, getDeadline)
		if n == len(pages) || err == nil {
			t.Errorf("%d pages, error %v, over a slow link", n, err)
		}
		total += n
		if (n+1)&n != 0 { // whole rounds are of 1, 2, 4, 8 … pages
			cut++
		}
	}
	if st := r.Stats(); total == 0 || cut == 0 || st.Open {
		t.Errorf("%d pages over a slow link, %d times a part of a round, %+v", total, cut, st)
	}
	if n := len(storetest.Get(t, r, pages[:1])); n != 1 {
		t.Error("what is small does not come either")
	}
}

// untilGreeted waits for the first probe's success.
func untilGreeted(t testing.TB, r *Redis) {
	t.Helper()
	storetest.Until(t, "Redis has been reached", func() bool {
		return len(r.queue) == 0 && r.client.PoolStats().TotalConns > 0
	})
}

// A liar that announces more than there can be is cut off, and found not to be worth
// asking.
func TestLiar(t *testing.T) {
	for name, reply := range map[string]string{
		"a string of 8 EiB":   "$9223372036854775806\r\n",
		"an array of 1 G":     "*1073741824\r\n",
		"endlessly nested":    "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
		"not the protocol":    "HTTP/1.1 400 Bad Request\r\n\r\n",
		"an array for a page": "*0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(c net.Conn) {
				buf := make([]byte, 4<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := io.WriteString(c, reply); err != nil {
						return
					}
				}
			})
			r := open(t, testOptions("redis://"+s.addr))
			outage(t, r, chain(1, 3))
		})
	}
}
