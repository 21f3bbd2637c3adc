package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"llamero/scheduler"
)

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

// A client that goes is noticed in every state, and its request is cancelled.
func TestDisconnect(t *testing.T) {
	states := map[string]func(*testing.T, *rawClient, *fakeStream, bool){
		"queued":     func(*testing.T, *rawClient, *fakeStream, bool) {},
		"prefilling": func(t *testing.T, c *rawClient, s *fakeStream, stream bool) { s.admit(0) },
		"decoding": func(t *testing.T, c *rawClient, s *fakeStream, stream bool) {
			s.admit(0)
			s.say(0, "a")
			if stream {
				c.head(t)
				c.chunk(t)
			}
		},
	}
	leave := map[string]func(*rawClient) error{
		"close": func(c *rawClient) error { return c.Close() },
		"reset": func(c *rawClient) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		},
		"half-close": func(c *rawClient) error { return c.CloseWrite() },
	}
	for state, reach := range states {
		for how, go_ := range leave {
			for _, stream := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/stream=%v", state, how, stream), func(t *testing.T) {
					t.Parallel()
					fake := newFake(silent)
					ts := start(t, fake, nil)
					c := ts.dial(t)
					c.send(t, rawPost(pathChat, helloWith(fmt.Sprintf(`,"stream":%v`, stream))))
					s := fake.stream(t, 0)
					reach(t, c, s, stream)
					if err := go_(c); err != nil {
						t.Fatal(err)
					}
					await(t, "cancel", s.cancelled)
					if r := ts.record(t, 0); r.Status != StatusClientGone {
						t.Errorf("recorded status %d", r.Status)
					}
					await(t, "nothing under watch", ts.watch.idle())
				})
			}
		}
	}
}

// Bytes that nobody has read are no disconnect, and do not hide one.
func TestPeerGone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw := rawConn(conn)
	if raw == nil {
		t.Fatal("no socket")
	}
	if peerGone(raw) {
		t.Error("an idle client is gone")
	}
	if _, err := io.WriteString(client, "more"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // now the rest is there, too
		t.Fatal(err)
	}
	if peerGone(raw) {
		t.Error("a client with unread bytes is gone")
	}
	client.Close()
	for deadline := time.Now().Add(5 * time.Second); !peerGone(raw); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("a close behind unread bytes is not seen")
		}
	}
	if rawConn(struct{ net.Conn }{conn}) != nil {
		t.Error("a conn that is no socket has one")
	}
}

// A client that sends its next request before it has its answer is still there;
// when it closes after that, it is gone all the same.
func TestPipelined(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	next := rawPost(pathTokenize, `{"content":"a"}`)
	c.send(t, rawPost(pathChat, helloWith(``))+next)
	s := fake.stream(t, 0)
	s.admit(0)
	s.put(s.tokens(0, "a"), scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishStop})
	if resp := c.response(t); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	} else {
		readAll(t, resp)
	}
	if resp := c.response(t); resp.StatusCode != 200 {
		t.Fatalf("the second answer: %d", resp.StatusCode)
	} else {
		readAll(t, resp)
	}

	c.send(t, rawPost(pathChat, helloWith(``))+next)
	s = fake.stream(t, 1)
	c.Close()
	await(t, "cancel behind pipelined bytes", s.cancelled)
}

// Kept-alive connections serve one request after another, streamed and not.
func TestKeepAlive(t *testing.T) {
	ts := start(t, newFake(answer(scheduler.FinishStop, "a")), func(o *Options) { o.WriteTimeout = 200 * time.Millisecond })
	c := ts.dial(t)
	for i := range 20 {
		c.send(t, rawPost(pathChat, helloWith(fmt.Sprintf(`,"stream":%v`, i%2 == 0))))
		if resp := c.response(t); resp.StatusCode != 200 || resp.Close {
			t.Fatalf("request %d: %d, close %v", i, resp.StatusCode, resp.Close)
		} else {
			readAll(t, resp)
		}
	}
	// A write deadline of an earlier answer must not outlive it.
	deadline := time.NewTimer(300 * time.Millisecond)
	<-deadline.C
	c.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
	if resp := c.response(t); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	} else {
		readAll(t, resp)
	}
}

// Many clients vanish at once; everything is back where it was.
func TestManyDisconnects(t *testing.T) {
	const n = 200
	fake := newFake(silent)
	ts := start(t, fake, nil)
	clients := make([]*rawClient, n)
	for i := range clients {
		clients[i] = ts.dial(t)
		clients[i].send(t, rawPost(pathChat, helloWith(fmt.Sprintf(`,"stream":%v`, i%2 == 0))))
	}
	for i := range n {
		if i%3 > 0 {
			fake.stream(t, i).admit(0)
		}
		if i%3 > 1 {
			fake.stream(t, i).say(0, "a")
		}
	}
	begun := time.Now()
	for _, c := range clients {
		c.Close()
	}
	for i := range n {
		await(t, "cancel", fake.stream(t, i).cancelled)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %v", took)
	}
	await(t, "nothing under watch", ts.watch.idle())
}
