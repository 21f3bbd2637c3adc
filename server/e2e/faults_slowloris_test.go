package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// loris is a connection that is held open by sending as little as possible: nothing, a
// request's head, or its body, byte by byte.
type loris struct {
	net.Conn
	drip []byte // what it goes on with; nil: nothing
}

// newLoris opens the i-th of many.
func newLoris(addr string, i int) (*loris, error) {
	c, err := net.DialTimeout("tcp", addr, requestTimeout)
	if err != nil {
		return nil, err
	}
	l := &loris{Conn: c}
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
	first := ""
	switch i % 4 {
	case 0: // says nothing
	case 1:
		first = head + "X-Slow: "
		l.drip = []byte("x")
	case 2: // announces the longest body there is, and sends it byte by byte
		first = head + "Content-Length: 4194304\r\n\r\n{"
		l.drip = []byte(" ")
	case 3: // the same in chunks, each of which announces more
		first = head + "Transfer-Encoding: chunked\r\n\r\n200000\r\n{"
		l.drip = []byte(" ")
	}
	if _, err := c.Write([]byte(first)); err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

// herd are many of them.
type herd struct {
	all  []*loris
	stop chan struct{}
	done sync.WaitGroup
}

// newHerd opens n connections and keeps them going, a byte a second each.
func newHerd(t *testing.T, g *gateway, n int) *herd {
	t.Helper()
	h := &herd{stop: make(chan struct{})}
	t.Cleanup(h.end)
	for i := range n {
		l, err := newLoris(strings.TrimPrefix(g.url, "http://"), i)
		if err != nil {
			t.Fatal(err)
		}
		h.all = append(h.all, l)
	}
	h.done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-h.stop:
				return
			}
			for _, l := range h.all {
				if l.drip != nil {
					_, _ = l.Write(l.drip) // fails once the gateway has closed it
				}
			}
		}
	})
	return h
}

// end closes what is open.
func (h *herd) end() {
	select {
	case <-h.stop:
		return
	default:
	}
	close(h.stop)
	h.done.Wait()
	for _, l := range h.all {
		l.Close()
	}
}

// closed waits until the gateway has closed every one, which it does with a word on
// why, and returns how long that took.
func (h *herd) closed(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	end := begun.Add(limit)
	for _, l := range h.all {
		if err := l.SetReadDeadline(end); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 4096); ; {
			if _, err := l.Read(b); err != nil {
				if late, ok := err.(net.Error); ok && late.Timeout() {
					t.Fatalf("a connection is open after %v", limit)
				}
				break
			}
		}
	}
	return time.Since(begun)
}

// TestSlowloris: thousands of connections that send next to nothing take little memory,
// slow down nobody, and are closed when a request's time to arrive has passed.
func TestSlowloris(t *testing.T) {
	const (
		most   = 64 << 10         // bytes a connection
		arrive = time.Minute      // a request's time
		slack  = 15 * time.Second // for the machine's
	)
	n, clients, rounds := sized(400, 2000), sized(2, 16), sized(1, 6)
	row := newRow(t, rowSlowloris, fmt.Sprintf("%d slowloris connections beside %d normal clients", n, clients))
	g := burdened(t, nil, "--slots", fmt.Sprint(sized(4, 16)), "--context", "512", "--cache-memory", "64MiB")
	target := targeted(t, g)
	measured(t, target, normals(t, clients, 1, 32, 8)) // connections and memory are there
	before, calm := peak(t, g), live(t, g)

	h := newHerd(t, g, n)
	until(t, "the gateway has all connections", func() bool {
		p, _ := scrape(t, g.url+"/metrics", "")
		return p.value("process_open_fds") > float64(n)
	})
	held := (live(t, g) - calm) / float64(n)
	row.figure("%.0f KiB held a connection, heap and stack; memory at its peak %.0f MiB, %.0f MiB before", held/(1<<10), peak(t, g)/(1<<20), before/(1<<20))
	if held > most || peak(t, g)-before > 4*most*float64(n) {
		t.Errorf("a connection takes %.0f KiB, all of them %.0f MiB", held/(1<<10), (peak(t, g)-before)/(1<<20))
	}
	if fullSize {
		row.figure("all closed after %.0f s", h.closed(t, arrive+slack).Seconds())
	}
	h.end()

	var itlWith, itlWithout, ttftWith, ttftWithout []time.Duration
	for round := range rounds {
		for _, with := range []bool{round%2 == 0, round%2 != 0} {
			settled(t, g)
			var h *herd
			if with {
				h = newHerd(t, g, n)
			}
			s := measured(t, target, normals(t, clients, 2, 32, 48))
			if with {
				h.end()
				itlWith, ttftWith = append(itlWith, s.ITL.P99), append(ttftWith, s.TTFT.P99)
			} else {
				itlWithout, ttftWithout = append(itlWithout, s.ITL.P99), append(ttftWithout, s.TTFT.P99)
			}
		}
	}
	row.compare(t, "normal clients' ITL p99", itlWith, itlWithout)
	row.compare(t, "TTFT p99", ttftWith, ttftWithout)
}
