package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	redisMemory = "1gb"
	redisLimit  = 10 * time.Second // for it to listen
	redisPoll   = 10 * time.Millisecond
)

// redisServer is a Redis on loopback that keeps nothing on disk.
type redisServer struct {
	url  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startRedis starts redis-server and waits until it listens. Another process may take
// the port before it does; it then fails to start, loudly.
func startRedis(ctx context.Context, program, dir string) (*redisServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	r := &redisServer{url: "redis://" + addr + "/0", done: make(chan struct{})}
	r.cmd = exec.CommandContext(ctx, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", dir, "--maxmemory", redisMemory, "--maxmemory-policy", "allkeys-lru", "--loglevel", "warning")
	log, err := os.Create(filepath.Join(dir, "redis.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	if err := r.listens(ctx, addr); err != nil {
		r.stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w; its output:\n%s", program, err, said)
	}
	return r, nil
}

func (r *redisServer) listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, redisLimit, fmt.Errorf("does not listen within %s", redisLimit))
	defer cancel()
	poll := time.NewTicker(redisPoll)
	defer poll.Stop()
	for {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-poll.C:
		case <-r.done:
			return errors.New("ended before it listened")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stop ends it: it has nothing to keep.
func (r *redisServer) stop() {
	_ = r.cmd.Process.Kill()
	<-r.done
}
