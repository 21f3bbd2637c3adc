package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"llamero/models"
)

// Bounds of what is waited for. They are generous, since the machine may be shared
// and slow; nothing waits for them when all is well.
const (
	startTimeout   = 3 * time.Minute
	requestTimeout = 2 * time.Minute
	stopTimeout    = time.Minute
)

// What all tests use, made once.
var shared struct {
	binary, lib, model string
	missing            string // why nothing can be run
	once               sync.Once
	gateway            *gateway
	err                error
}

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "llamero-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	defer func() {
		if shared.gateway != nil {
			shared.gateway.kill()
		}
	}()
	if shared.lib, err = models.ResolveLibs(os.Getenv("LLAMERO_LIB"), "cpu"); err == nil {
		shared.model, err = models.Resolve(models.Default)
	}
	if err != nil {
		shared.missing = err.Error()
		return m.Run()
	}
	shared.binary = filepath.Join(dir, "llamero")
	build := exec.Command("go", "build", "-o", shared.binary, "llamero")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// need skips a test whose tools are missing, or fails it in CI.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (`make test` brings what is needed)", what)
	}
	t.Skipf("%s (`make test` brings what is needed)", what)
}

// gateway is a running llamero.
type gateway struct {
	cmd  *exec.Cmd
	url  string // http://127.0.0.1:port
	log  *logReader
	done chan struct{} // closed when the process has ended
}

// running returns the gateway that most tests share.
func running(t *testing.T) *gateway {
	t.Helper()
	need(t, shared.missing == "", shared.missing)
	shared.once.Do(func() {
		shared.gateway, shared.err = start(nil, "--slots", "4", "--context", "1024")
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.gateway
}

// own starts a gateway for one test, which may stop it.
func own(t *testing.T, env []string, args ...string) *gateway {
	t.Helper()
	need(t, shared.missing == "", shared.missing)
	g, err := start(env, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	return g
}

// start runs serve on a free port and waits until it is ready.
func start(env []string, args ...string) (*gateway, error) {
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--lib", shared.lib, "--model", shared.model,
		"--alias", model, "--log-format", "json"}, args...)
	g := &gateway{cmd: exec.Command(shared.binary, args...), log: newLogReader(), done: make(chan struct{})}
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	line, err := g.log.find(ctx, g.done, "serving")
	if err != nil {
		g.kill()
		return nil, fmt.Errorf("the gateway does not start: %w\n%s", err, g.log)
	}
	g.url = "http://" + line["addr"].(string)
	for ctx.Err() == nil {
		resp, err := http.Get(g.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return g, nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-g.done:
			return nil, fmt.Errorf("the gateway ended\n%s", g.log)
		}
	}
	g.kill()
	return nil, fmt.Errorf("the gateway is not ready in time\n%s", g.log)
}

// kill ends the process whatever it does.
func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	<-g.done
}

func (g *gateway) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the process and returns how it ended.
func (g *gateway) ended(t *testing.T) *os.ProcessState {
	t.Helper()
	select {
	case <-g.done:
		return g.cmd.ProcessState
	case <-time.After(stopTimeout):
		t.Fatalf("the gateway does not end\n%s", g.log)
		return nil
	}
}

// post sends JSON and returns the answer's status and body.
func (g *gateway) post(t *testing.T, path, body string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// logReader keeps a process's JSON log lines and lets a test wait for one.
type logReader struct {
	mu      sync.Mutex
	raw     bytes.Buffer
	changed chan struct{} // closed and replaced when something was written
}

func newLogReader() *logReader { return &logReader{changed: make(chan struct{})} }

func (l *logReader) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw.Write(b)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

func (l *logReader) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.raw.String()
}

// find waits for a line with the message.
func (l *logReader) find(ctx context.Context, done <-chan struct{}, msg string) (map[string]any, error) {
	for {
		l.mu.Lock()
		text, changed := l.raw.String(), l.changed
		l.mu.Unlock()
		lines := bufio.NewScanner(strings.NewReader(text))
		for lines.Scan() {
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) == nil && line["msg"] == msg {
				return line, nil
			}
		}
		select {
		case <-changed:
		case <-done:
			return nil, errors.New("it ended")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// model is the alias that the tests serve under.
const model = "smol"
