package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/scheduler"
)

func TestReadBody(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 10_000)
	broken := errors.New("broken")
	for _, x := range []struct {
		name          string
		sent          io.Reader
		length, limit int
		err           error
	}{
		{"known", bytes.NewReader(text), len(text), len(text), nil},
		{"known, byte by byte", iotest.OneByteReader(bytes.NewReader(text)), len(text), len(text), nil},
		{"known, its end with its last bytes", iotest.DataErrReader(bytes.NewReader(text)), len(text), len(text), nil},
		{"chunked", bytes.NewReader(text), -1, len(text), nil},
		{"chunked, its end with its last bytes", iotest.DataErrReader(bytes.NewReader(text)), -1, len(text), nil},
		{"chunked, too large", bytes.NewReader(text), -1, len(text) - 1, fiber.ErrRequestEntityTooLarge},
		{"truncated", bytes.NewReader(text[:100]), len(text), len(text), errTruncated},
		{"broken", io.MultiReader(bytes.NewReader(text[:100]), iotest.ErrReader(broken)), len(text), len(text), broken},
		{"broken in chunks", io.MultiReader(bytes.NewReader(text[:100]), iotest.ErrReader(broken)), -1, len(text), broken},
	} {
		b, err := readBody(x.sent, x.length, x.limit)
		if !errors.Is(err, x.err) || err == nil && !bytes.Equal(b, text) {
			t.Errorf("%s: %d bytes, %v", x.name, len(b), err)
		}
	}
	for _, length := range []int{0, -1} {
		if b, err := readBody(strings.NewReader(""), length, 10); err != nil || len(b) != 0 {
			t.Errorf("an empty body of length %d: %q, %v", length, b, err)
		}
	}
}

// A length that is only announced has no memory set aside for it.
func TestAnnouncedBodies(t *testing.T) {
	const conns, each = 100, 256 << 10
	ts := start(t, newFake(silent), nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	clients := make([]*rawClient, conns)
	for i := range clients {
		clients[i] = ts.dial(t)
		frame := "Content-Length: 4194304\r\n\r\n"
		if i%2 == 0 {
			frame = "Transfer-Encoding: chunked\r\n\r\n3fffff\r\n"
		}
		clients[i].send(t, "POST "+pathChat+" HTTP/1.1\r\nHost: x\r\n"+frame+strings.Repeat(" ", 10<<10))
	}
	open := func() int {
		ts.Server.mu.Lock()
		defer ts.Server.mu.Unlock()
		return len(ts.Server.conns)
	}
	for end := time.Now().Add(5 * time.Second); open() < conns; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d connections", open())
		}
	}
	// Each gets an answer once its body has ended, however it does.
	for _, c := range clients {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		if resp := c.response(t); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > conns*each {
		t.Errorf("%d KiB were allocated for each", took/conns>>10)
	}
}

// Whoever shows no key has nothing of his body kept, and is told so all the same.
func TestNoKeyNoBody(t *testing.T) {
	ts := start(t, newFake(silent), func(o *Options) { o.Keys = []Key{{"ann", "sk-1"}} })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n, size = 20, 3 << 20
	for range n {
		if status, _, body := ts.post(t, pathChat, strings.Repeat(" ", size)); status != http.StatusUnauthorized {
			t.Fatalf("%d %s", status, body)
		}
	}
	runtime.ReadMemStats(&after)
	// The client's own copies of what it sends are among it, one each.
	if took := after.TotalAlloc - before.TotalAlloc; took > n*(size+size/2) {
		t.Errorf("%d KiB were allocated for each", took/n>>10)
	}
}

// A handler that takes no body does not read one; the connection goes on behind it.
func TestBodiless(t *testing.T) {
	ts := start(t, newFake(silent), func(o *Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v", n, err)
		})
	})
	c := ts.dial(t)
	for _, path := range []string{pathMetrics, pathHealth, pathModels, "/nowhere"} {
		for _, frame := range []string{"Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), "Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n0\r\n\r\n"} {
			c.send(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+frame)
			resp := c.response(t)
			body := readAll(t, resp)
			if want := 200; path != "/nowhere" && resp.StatusCode != want || resp.Close {
				t.Errorf("%s: %d, close %v: %s", path, resp.StatusCode, resp.Close, body)
			}
			if path == pathMetrics && strings.HasPrefix(body, "100000 ") {
				t.Errorf("%s read its body: %s", path, body)
			}
		}
	}
}

// FuzzHTTP sends anything to any route: no answer is a failure of the server's, and
// every refusal has OpenAI's shape.
func FuzzHTTP(f *testing.F) {
	ts := start(f, newFake(answer(scheduler.FinishStop, "a")), nil)
	paths := []string{pathChat, pathText, pathTokenize, pathDetokenize, pathTemplate, pathModels, pathHealth}
	for i, body := range []string{`{"messages":[{"role":"user","content":"x"}]}`, `{"prompt":["a"],"stream":true,"logprobs":1}`, `{"content":"x"}`, `{"tokens":[1]}`, `{"messages":[]}`, ``, `[[[`} {
		f.Add(uint8(i), body, "X-A: b")
	}
	f.Fuzz(func(t *testing.T, route uint8, body, header string) {
		if strings.ContainsAny(header, "\r\n") || strings.HasPrefix(header, " ") || strings.HasPrefix(header, "\t") || len(header) > 4096 {
			t.Skip() // the frame is ours, or there is no end to wait for
		}
		if name := strings.ToLower(strings.TrimSpace(strings.SplitN(header, ":", 2)[0])); name == "content-length" || name == "transfer-encoding" || name == "expect" {
			t.Skip()
		}
		c := ts.dial(t)
		c.send(t, rawPost(paths[int(route)%len(paths)], body, header, "Connection: close"))
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		if resp.StatusCode >= 500 || resp.StatusCode >= 400 && !strings.HasPrefix(string(text), `{"error":{"message":"`) {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	})
}
