package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"llamero/cache"
	"llamero/cache/store/storetest"
)

// Pages of most tests.
const (
	testTokens = 4
	testBytes  = 256
)

var testKey = []byte("a key that only the tests have")

// testOptions are those of a tier at a URL.
func testOptions(url string) RedisOptions {
	return RedisOptions{
		URL: url, Key: testKey, PageTokens: testTokens, PageBytes: testBytes, Log: slog.New(slog.DiscardHandler),
	}
}

// open returns a tier that the test closes.
func open(t testing.TB, opt RedisOptions) *Redis {
	t.Helper()
	r, err := NewRedis(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func chain(seed uint64, n int) []storetest.Page {
	return storetest.Chain(seed, n, testTokens, testBytes)
}

// opener is for the conformance suite: each test has a namespace of its own.
func opener(url string, with func(*RedisOptions)) func(t *testing.T) (cache.Remote, func() cache.Remote) {
	namespaces := 0
	return func(t *testing.T) (cache.Remote, func() cache.Remote) {
		opt := testOptions(url)
		namespaces++
		opt.Namespace = "suite" + strconv.Itoa(namespaces)
		if with != nil {
			with(&opt)
		}
		return open(t, opt), func() cache.Remote { return open(t, opt) }
	}
}

// server is a redis-server that a test has started, on loopback alone.
type server struct {
	t    testing.TB
	args []string
	addr string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	gone chan struct{} // closed when it has ended
}

// needRedis is the path of redis-server.
func needRedis(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no redis-server (`make deps` brings it)")
		}
		t.Skip("there is no redis-server (`make deps` brings it)")
	}
	return path
}

// freePort is a port that nobody listened on a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startRedis starts a server with further arguments, on a port that was free.
func startRedis(t testing.TB, args ...string) *server {
	t.Helper()
	needRedis(t)
	s := &server{t: t}
	t.Cleanup(s.kill)
	for try := 0; ; try++ {
		port := strconv.Itoa(freePort(t))
		s.addr = net.JoinHostPort("127.0.0.1", port)
		s.args = slices.Concat([]string{"--port", port}, args)
		if s.start() {
			return s
		}
		if try == 4 { // others take ports too
			t.Fatalf("redis-server does not start: %s", s.log)
		}
	}
}

// start runs the server, on the same port as before, and waits until it answers.
func (s *server) start() bool {
	s.t.Helper()
	return s.run(slices.Concat([]string{"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.t.TempDir()}, s.args)...)
}

// run starts redis-server and says whether it listens; else it has ended.
func (s *server) run(args ...string) bool {
	s.t.Helper()
	s.cmd = exec.Command(needRedis(s.t), args...)
	s.log, s.gone = new(bytes.Buffer), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.gone)
	}()
	up := false
	storetest.Until(s.t, "redis-server listens or has ended", func() bool {
		select {
		case <-s.gone:
			return true
		default:
		}
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close()
		up = true
		return true
	})
	return up
}

func (s *server) url() string { return "redis://" + s.addr + "/0" }

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the server at once, also one that is stopped.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.gone
}

// sink is a server that takes connections and bytes and never answers.
type sink struct {
	addr string
	l    net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
}

func newSink(t testing.TB) *sink {
	return newServer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// newServer serves every connection by serve, which ends with the connection.
func newServer(t testing.TB, serve func(net.Conn)) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String(), l: l, open: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[c] = true
			s.mu.Unlock()
			wg.Go(func() {
				serve(c)
				s.mu.Lock()
				delete(s.open, c)
				s.mu.Unlock()
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for c := range s.open {
			_ = c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

func (s *sink) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// raw is a client that does as told, for looking at a store and spoiling it.
func raw(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// do runs one command.
func do(t testing.TB, c *redis.Client, args ...any) any {
	t.Helper()
	v, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
	return v
}

// untilOpen waits until the breaker is open, or closed.
func untilOpen(t testing.TB, r *Redis, open bool) {
	t.Helper()
	storetest.Until(t, fmt.Sprintf("the breaker's being open is %v", open), func() bool { return r.Stats().Open == open })
}
