package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// leaver is a client that goes before it has its answer.
type leaver struct {
	stream bool
	how    int           // close, reset, half-close
	chunks int           // of a stream that it waits for; 0: it leaves after a time
	after  time.Duration // counted from its request, or from its last chunk
	text   string
}

// leave asks, and goes. What goes wrong on the way is an error; an answer that comes
// first is none.
func (l leaver) leave(addr string) error {
	body, err := json.Marshal(map[string]any{"model": model, "prompt": l.text, "max_tokens": 400, "ignore_eos": true, "stream": l.stream})
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", addr, requestTimeout)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(post("", "/v1/completions", body).raw); err != nil {
		return err
	}
	lines := bufio.NewScanner(c)
	for seen := 0; seen < l.chunks && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "HTTP/1.1 ") && !strings.HasPrefix(lines.Text(), "HTTP/1.1 200") {
			return fmt.Errorf("%s", lines.Text())
		}
		if strings.HasPrefix(lines.Text(), "data: ") {
			seen++
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	time.Sleep(l.after) // the moment at which it goes, which is what is tested
	switch l.how {
	case 1:
		return c.SetLinger(0) // its close is a reset
	case 2:
		if err := c.CloseWrite(); err != nil {
			return err
		}
		for lines.Scan() { // until the gateway closes its side
		}
		return nil
	}
	return nil
}

// TestLeavers: clients that go, queued, being read or being answered, streamed or not,
// leave nothing behind: no slot, no page, no goroutine, no file, within a second.
func TestLeavers(t *testing.T) {
	const within = time.Second
	n, wave := sized(64, 1000), sized(32, 64)
	row := newRow(t, rowDisconnects, fmt.Sprintf("%d clients that go, queued, in prefill or decoding, streamed or not", n))
	g := burdened(t, nil, "--slots", fmt.Sprint(soakSlots), "--context", "1024", "--cache-memory", "16MiB", "--page-tokens", fmt.Sprint(soakPage))
	ask(t, g, "", disjoint(t, 1, 100, 8)[0]) // what is made once is there
	s := &soak{g: g, began: time.Now()}
	before := s.look(t)
	r := rand.New(rand.NewPCG(6, 7))
	words, err := texts(1<<42, 400, sized(30, 120))
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(g.url, "http://")
	var worst time.Duration
	var after page
	for done := 0; done < n; done += wave {
		var wg sync.WaitGroup
		for range min(wave, n-done) {
			l := leaver{stream: r.IntN(2) == 0, how: r.IntN(3), text: fmt.Sprint(r.Uint32(), words[r.IntN(len(words))]),
				after: time.Duration(r.IntN(3000)) * time.Millisecond}
			if l.stream && r.IntN(2) == 0 {
				l.chunks, l.after = 1+r.IntN(sized(4, 20)), 0
			}
			wg.Go(func() {
				if err := l.leave(addr); err != nil {
					t.Errorf("streamed %v, way %d, after %d chunks or %v: %v", l.stream, l.how, l.chunks, l.after, err)
				}
			})
		}
		wg.Wait()
		left := time.Now()
		after = s.rest(t, before)
		worst = max(worst, time.Since(left))
	}
	if fullSize && worst > within {
		t.Errorf("all was at rest %v after the last one had gone", worst)
	}
	grown := func(name string, labels ...string) float64 {
		return after.value(name, labels...) - before.value(name, labels...)
	}
	admitted, begun := grown("vllm:request_queue_time_seconds"), grown("vllm:request_prefill_time_seconds")
	gone := grown("llamero_http_requests_total", "code", "499")
	if queued := float64(n) - admitted; gone < float64(n)*9/10 || queued < 1 || begun < 1 || fullSize && admitted-begun < 1 {
		t.Errorf("%v of %d gone: %v queued, %v in prefill, %v decoding", gone, n, queued, admitted-begun, begun)
	}
	row.figure("%.0f gone before their answer was whole: %.0f of all queued, %.0f in prefill, %.0f decoding", gone, float64(n)-admitted, admitted-begun, begun)
	row.figure("all at rest %s ms after the last of each %d had gone, at most", inMS(worst), wave)
	row.figure("goroutines %.0f and %.0f before, files %.0f and %.0f", after.value("go_goroutines"), before.value("go_goroutines"),
		after.value("process_open_fds"), before.value("process_open_fds"))
	s.whole(t)
}
