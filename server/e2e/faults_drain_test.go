package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrainCrowd: SIGTERM under many streams. Readiness flips at once, new requests are
// turned away, streams that fit the drain time complete, the others end with an error
// in the stream, and the gateway exits with 0.
func TestDrainCrowd(t *testing.T) {
	const flipGoal = 100 * time.Millisecond
	n, drain := sized(8, 64), time.Duration(sized(8, 15))*time.Second
	row := newRow(t, rowDrain, fmt.Sprintf("SIGTERM under %d streams, %v to drain", n, drain))
	g := burdened(t, nil, "--slots", fmt.Sprint(n), "--context", "2048", "--kv-memory", "4GiB", "--cache-memory", "64MiB", "--drain-timeout", drain.String())
	addr := strings.TrimPrefix(g.url, "http://")
	// Half of them are nearly done, half go on for minutes.
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = []int{16, 1900}[i%2]
	}
	c := joinEach(g, "", tokens)
	c.each(t, 8)
	probe := dial(t, addr)
	g.signal(t, syscall.SIGTERM)
	signalled := time.Now()
	for probe.get(t, "/readyz").StatusCode == http.StatusOK {
		if time.Since(signalled) > stopTimeout {
			t.Fatal("/readyz stays 200")
		}
		probe = dial(t, addr)
	}
	flipped := time.Since(signalled)
	if fullSize && flipped > flipGoal {
		t.Errorf("readiness flipped after %v", flipped)
	}
	refused := dial(t, addr).do(t, string(post("", "/v1/completions", []byte(`{"prompt":"x","max_tokens":1}`)).raw))
	if refused.StatusCode != http.StatusServiceUnavailable || !refused.Close || refused.Header.Get("Retry-After") == "" {
		t.Errorf("a new request: %d, close %v, %v", refused.StatusCode, refused.Close, refused.Header)
	}
	c.done.Wait()
	whole, told := 0, 0
	for i := range n {
		switch err := c.errs[i]; {
		case tokens[i] < 100 && (err != nil || c.tokens[i] != tokens[i]):
			t.Errorf("stream %d: %d of %d tokens, %v", i, c.tokens[i], tokens[i], err)
		case tokens[i] < 100:
			whole++
		case err == nil || !strings.Contains(err.Error(), `"shutting_down"`):
			t.Errorf("stream %d was cut off: %v", i, err)
		default:
			told++
		}
	}
	state := g.ended(t)
	took := time.Since(signalled)
	if state.ExitCode() != 0 {
		t.Errorf("exit %v\n%s", state, g.log)
	}
	if took > drain+stopTimeout/6 {
		t.Errorf("it took %v to end", took)
	}
	row.figure("readiness flipped after %s ms, a new request got 503 and Connection: close", inMS(flipped))
	row.figure("%d streams complete, %d ended with an error in the stream, none silently", whole, told)
	row.figure("exit 0 after %.1f s", took.Seconds())
}

// each waits until each stream has so many chunks, or has ended.
func (c *crowd) each(t *testing.T, n int64) {
	t.Helper()
	for end := time.Now().Add(requestTimeout); ; time.Sleep(time.Millisecond) {
		least := n
		for i := range c.counts {
			least = min(least, c.counts[i].Load())
		}
		if least == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a stream has %d of %d chunks", least, n)
		}
	}
}

// client is a connection of its own, for what http.Client hides.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		t.Fatal(err)
	}
	return client{c, bufio.NewReader(c)}
}

// do sends a request and returns its answer, whose body is left.
func (c client) do(t *testing.T, raw string) *http.Response {
	t.Helper()
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (c client) get(t *testing.T, path string) *http.Response {
	t.Helper()
	return c.do(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}
