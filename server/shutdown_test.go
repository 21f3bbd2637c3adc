package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"llamero/scheduler"
	"llamero/server/openai"
)

// Draining flips readiness and refuses what is new; what is under way completes.
func TestDrain(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	c.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
	s := fake.stream(t, 0)
	s.admit(0)
	c.head(t)
	c.chunk(t)
	ts.Drain()
	other := ts.dial(t)
	other.send(t, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp := other.response(t); resp.StatusCode != 503 || !resp.Close || !strings.Contains(readAll(t, resp), "draining") {
		t.Errorf("readiness: %d, close %v", resp.StatusCode, resp.Close)
	}
	other = ts.dial(t)
	other.send(t, rawPost(pathChat, helloWith("")))
	if resp := other.response(t); resp.StatusCode != 503 || !resp.Close || resp.Header.Get("Retry-After") == "" || !strings.Contains(readAll(t, resp), openai.CodeShuttingDown) {
		t.Errorf("new request: %d, close %v, %v", resp.StatusCode, resp.Close, resp.Header)
	}
	down := make(chan error, 1)
	go func() { down <- ts.Shutdown(context.Background()) }()
	s.put(s.tokens(0, "a"), scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishStop})
	if got := c.chunk(t); !strings.HasSuffix(got, openai.Done) {
		t.Errorf("the stream ends with %q", got)
	}
	c.chunk(t)
	select {
	case err := <-down:
		if err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Shutdown does not return")
	}
	if _, err := net.Dial("tcp", ts.addr); err == nil {
		t.Error("it still listens")
	}
	if err := ts.Serve(listener(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func listener(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// What the drain time cuts off ends with an error in its stream.
func TestCutOff(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	c.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
	s := fake.stream(t, 0)
	s.admit(0)
	c.head(t)
	c.chunk(t)
	whole := ts.dial(t)
	whole.send(t, rawPost(pathChat, helloWith("")))
	fake.stream(t, 1).admit(0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	down := make(chan error, 1)
	go func() { down <- ts.Shutdown(ctx) }()
	if got := c.chunk(t); !strings.Contains(got, openai.CodeShuttingDown) || strings.Contains(got, "DONE") {
		t.Errorf("the stream ends with %q", got)
	}
	if resp := whole.response(t); resp.StatusCode != 503 || !resp.Close {
		t.Errorf("not streamed: %d, close %v", resp.StatusCode, resp.Close)
	}
	select {
	case err := <-down:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Shutdown does not return")
	}
}

// A client that does not read cannot hold Shutdown up.
func TestCutOffSlowReader(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	if err := c.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	c.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
	s := fake.stream(t, 0)
	s.admit(0)
	for range 64 {
		s.say(0, strings.Repeat("x", 1<<17))
	}
	c.head(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begun := time.Now()
	if err := ts.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if took := time.Since(begun); took > shutdownGrace+3*time.Second {
		t.Errorf("Shutdown took %v", took)
	}
	await(t, "nothing under watch", ts.watch.idle())
}
