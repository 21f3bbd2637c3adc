package e2e

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"llamero/cache"
)

// redisServer is a Redis of a test's own.
type redisServer struct {
	*redis.Client
	url, addr string
	path      string
	args      []string
	cmd       *exec.Cmd
}

// startRedis starts a Redis on a free port of loopback.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	need(t, err == nil, "redis-server is not there")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	r := &redisServer{url: "redis://" + addr + "/0", addr: addr, path: path,
		Client: redis.NewClient(&redis.Options{Addr: addr, Protocol: 2}),
		args:   append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)}
	t.Cleanup(func() { r.kill(); _ = r.Close() })
	r.start(t)
	return r
}

// start runs the server, on the same port each time, and waits until it answers.
func (r *redisServer) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command(r.path, r.args...)
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// kill ends the server at once, also one that is stopped.
func (r *redisServer) kill() {
	if r.cmd.Process != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

func (r *redisServer) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// keys counts what is there.
func (r *redisServer) keys(t *testing.T) int {
	t.Helper()
	n, err := r.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if !soon(patience, condition) {
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// soon reports whether a condition comes to hold within a time.
func soon(limit time.Duration, condition func() bool) bool {
	for end := time.Now().Add(limit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// A page's value in Redis, as cache/store writes it: these tests look at it from
// outside, as whoever has the Redis can.
const (
	valueVersion = 8  // where its version is, 2 bytes
	valueCount   = 12 // the count of its tokens, 4 bytes
	valueAddress = 24 // its address, 32 bytes
	valueTokens  = 56 // its tokens, 4 bytes each
	valueMAC     = 32 // bytes at its end
)

// stored is a page in Redis.
type stored struct {
	key, value string
}

func (p stored) address() cache.Address {
	return cache.Address([]byte(p.value[valueAddress:valueTokens]))
}

func (p stored) tokens() []cache.Token {
	out := make([]cache.Token, binary.LittleEndian.Uint32([]byte(p.value[valueCount:])))
	for i := range out {
		out[i] = cache.Token(binary.LittleEndian.Uint32([]byte(p.value[valueTokens+4*i:])))
	}
	return out
}

// all returns every page, by key.
func (r *redisServer) all(t *testing.T) map[string]stored {
	t.Helper()
	keys, err := r.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]stored, len(keys))
	for _, key := range keys {
		value, err := r.Get(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(value) < valueTokens+valueMAC {
			t.Fatalf("%s holds %d bytes", key, len(value))
		}
		out[key] = stored{key, value}
	}
	return out
}

// added returns the pages of the chain that was not there before, in its order. What
// has come late of earlier chains is left out.
func (r *redisServer) added(t *testing.T, before map[string]stored) []stored {
	t.Helper()
	var chain, rest []stored
	old := slices.Collect(maps.Values(before))
	for key, p := range r.all(t) {
		if _, there := before[key]; !there {
			rest = append(rest, p)
		}
	}
	follows := func(p stored, parents []stored) bool {
		return slices.ContainsFunc(parents, func(o stored) bool { return o.address().Child(p.tokens()) == p.address() })
	}
	take := func(to *[]stored, fits func(stored) bool) bool {
		i := slices.IndexFunc(rest, fits)
		if i >= 0 {
			*to = append(*to, rest[i])
			rest = slices.Delete(rest, i, i+1)
		}
		return i >= 0
	}
	for take(&old, func(p stored) bool { return follows(p, old) }) {
	}
	for take(&chain, func(p stored) bool {
		if n := len(chain); n > 0 {
			return follows(p, chain[n-1:])
		}
		return !follows(p, rest)
	}) {
	}
	if len(chain) == 0 || len(rest) > 0 {
		t.Fatalf("%d pages make a chain, %d are not of it", len(chain), len(rest))
	}
	return chain
}

// link is a proxy in front of a Redis that holds each piece of its answers back.
type link struct {
	addr  string
	delay atomic.Int64 // ns
}

const linkPiece = 64 << 10

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { k.carry(ctx, c, to) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		wg.Wait()
	})
	return k
}

// carry serves one connection until either side, or the test, has ended.
func (k *link) carry(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close(); _ = up.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	for piece := make([]byte, linkPiece); ; {
		n, err := up.Read(piece)
		if err != nil {
			return
		}
		select {
		case <-time.After(time.Duration(k.delay.Load())): // the fault itself
		case <-ctx.Done():
			return
		}
		if _, err := c.Write(piece[:n]); err != nil {
			return
		}
	}
}
