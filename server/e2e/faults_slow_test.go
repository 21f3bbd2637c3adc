package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"llamero/bench"
)

// What slow readers ask for: tokens with twenty alternatives each, some 100 KiB, more
// than sockets hold for a client with so small a buffer.
const (
	slowTokens = 96
	slowBuffer = 4 << 10
)

// openStream asks for a stream, over a connection that holds little.
func openStream(ctx context.Context, addr, text string) (net.Conn, error) {
	body, err := json.Marshal(map[string]any{
		"model": model, "messages": []map[string]string{{"role": "user", "content": text}}, "stream": true,
		"max_tokens": slowTokens, "ignore_eos": true, "logprobs": true, "top_logprobs": 20,
	})
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var set error // before it connects, so that the window is as small
		if err := c.Control(func(fd uintptr) {
			set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowBuffer)
		}); err != nil {
			return err
		}
		return set
	}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(post("", chatPath, body).raw); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// readWhole reads as fast as it can, to the end.
func readWhole(c net.Conn) error {
	n, err := io.Copy(io.Discard, c)
	if err == nil && n < slowTokens*500 {
		err = fmt.Errorf("an answer of %d bytes", n)
	}
	return err
}

// readSlowly reads a byte a second until the gateway closes the connection, or ctx ends.
func readSlowly(ctx context.Context, c net.Conn) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for b := make([]byte, 1); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// slowRound is normal clients beside readers.
type slowRound struct {
	itl     time.Duration // of the normal ones, p99
	held    float64       // bytes a slow reader's stream held when all was computed
	open    int           // streams that did
	evicted time.Duration // until all were closed, counted from then
}

// run has readers, slow or not, beside normal clients.
func (r *slowRound) run(t *testing.T, g *gateway, target *bench.Target, readers, clients int, slow bool) {
	t.Helper()
	addr := strings.TrimPrefix(g.url, "http://")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before, start := live(t, g), settled(t, g)
	gone := func() int {
		p, _ := scrape(t, g.url+"/metrics", "")
		return int(p.value("llamero_http_requests_total", "code", "499") - start.value("llamero_http_requests_total", "code", "499"))
	}
	var wg sync.WaitGroup
	for _, q := range disjoint(t, readers, 20, 1) {
		c, err := openStream(ctx, addr, q.Messages[0].Content)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wg.Go(func() {
			if slow {
				readSlowly(ctx, c)
			} else if err := readWhole(c); err != nil {
				t.Error(err)
			}
		})
	}
	r.itl = measured(t, target, normals(t, clients, 2, 32, 48)).ITL.P99
	if !slow {
		wg.Wait()
		return
	}
	settled(t, g)
	computed := time.Now()
	// What the streams hold while their clients do not read.
	r.open = readers - gone()
	if now := live(t, g); r.open > 0 {
		r.held = (now - before) / float64(r.open)
	}
	if !soon(requestTimeout, func() bool { return gone() == readers }) {
		t.Errorf("%d of %d slow readers were closed", gone(), readers)
	}
	r.evicted = time.Since(computed)
}

// TestSlowReaders: clients that read a byte a second hold up nobody, hold little, and
// are closed at the write deadline.
func TestSlowReaders(t *testing.T) {
	readers, clients, rounds, deadline := sized(5, 100), sized(2, 16), sized(1, 3), 30*time.Second
	if !fullSize {
		deadline = 3 * time.Second
	}
	const most = 64 << 10 // bytes a stream
	row := newRow(t, rowSlowReaders, fmt.Sprintf("%d readers of 1 byte/s beside %d normal ones", readers, clients))
	g := burdened(t, nil, "--slots", fmt.Sprint(sized(8, 32)), "--context", "512", "--queue", "128", "--cache-memory", "64MiB", "--write-timeout", deadline.String())
	target := targeted(t, g)
	measured(t, target, normals(t, clients, 1, 32, 8)) // connections and memory are there
	var with, without []time.Duration
	var held []float64
	var evicted time.Duration
	for round := range rounds {
		var fast, slow slowRound
		for _, first := range []bool{round%2 == 0, round%2 != 0} {
			if first {
				fast.run(t, g, target, readers, clients, false)
			} else {
				slow.run(t, g, target, readers, clients, true)
			}
		}
		with, without = append(with, slow.itl), append(without, fast.itl)
		evicted = max(evicted, slow.evicted)
		if slow.open > 0 {
			held = append(held, slow.held)
		}
		t.Logf("round %d: ITL p99 %v beside slow readers, %v beside fast ones; %d of %d streams were open with %.1f KiB each; all closed after %v",
			round, slow.itl, fast.itl, slow.open, readers, slow.held/(1<<10), slow.evicted)
	}
	row.compare(t, "ITL p99", with, without)
	if evicted > deadline+patience/10 {
		t.Errorf("closed after %v, the write deadline is %v", evicted, deadline)
	}
	row.figure("all closed %s ms after the last token was computed, with a write deadline of %v", inMS(evicted), deadline)
	switch {
	case len(held) > 0:
		s := bench.NewSpread(held)
		row.figure("%.0f KiB held a stream, %.0f at most", s.Median/(1<<10), s.Max/(1<<10))
		if fullSize && s.Max > most {
			t.Errorf("a stream held %.0f KiB", s.Max/(1<<10))
		}
	case fullSize:
		t.Error("no slow reader was left when all had been computed")
	}
}
