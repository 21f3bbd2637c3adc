package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 2 * time.Minute // from start to ready: a large model on a slow disk
	stopLimit  = 20 * time.Second
	readyPoll  = 50 * time.Millisecond
	deathGrace = time.Second // from a broken connection to the end of the process
	logTail    = 2 << 10
)

// Server is a child process that serves HTTP on a port of its own on loopback.
type Server struct {
	Name string
	Argv []string
	URL  string
	Log  string // file of what it prints; Stop removes it

	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when the process has ended
	err  error         // of Wait, once done is closed
}

// StartServer starts a program and waits until GET ready answers 200. args gets
// the address to listen on. The process is asked to stop when ctx ends; what it
// prints goes to a temporary file, the end of which is part of an error.
func StartServer(ctx context.Context, name, program string, args func(host, port string) []string, ready string) (*Server, error) {
	host, port, err := freePort()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp("", "bench-"+name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("log file for %s: %w", name, err)
	}
	s := &Server{Name: name, URL: "http://" + net.JoinHostPort(host, port), Log: log.Name(), log: log, done: make(chan struct{})}
	s.Argv = append([]string{program}, args(host, port)...)
	s.cmd = exec.CommandContext(ctx, s.Argv[0], s.Argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopLimit
	if err := s.cmd.Start(); err != nil {
		s.removeLog()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	if err := s.waitReady(ctx, ready); err != nil {
		err = s.failure(err)
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) waitReady(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready within %s", startLimit))
	defer cancel()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		if resp, err := client.Get(s.URL + path); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-s.done:
			return fmt.Errorf("ended before it was ready: %w", s.exit())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Died returns why a server that should be running is not, nil if it still runs
// after a time.
func (s *Server) Died(after time.Duration) error {
	limit := time.NewTimer(after)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		select {
		case <-s.done:
		default:
			return nil
		}
	}
	return s.failure(fmt.Errorf("it ended: %w", s.exit()))
}

// exit says how the process has ended.
func (s *Server) exit() error {
	if s.err == nil {
		return errors.New("exit status 0")
	}
	return s.err
}

// failure adds to an error what it is about, and what the process printed last.
func (s *Server) failure(err error) error {
	return fmt.Errorf("%s: %w; its last output:\n%s", strings.Join(s.Argv, " "), err, s.tail())
}

// Stop asks the process to end, kills it if it does not, and removes its log. It
// may be called again.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.removeLog()
}

func (s *Server) removeLog() {
	s.log.Close()
	os.Remove(s.Log)
}

// tail returns the end of what the process has printed.
func (s *Server) tail() string {
	info, err := s.log.Stat()
	if err != nil {
		return err.Error()
	}
	b := make([]byte, min(info.Size(), logTail))
	n, _ := s.log.ReadAt(b, info.Size()-int64(len(b)))
	return string(b[:n])
}

// freePort finds a port that is free now. Another process may take it before the
// server does; the server then fails to start, loudly.
func freePort() (host, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return net.SplitHostPort(l.Addr().String())
}
