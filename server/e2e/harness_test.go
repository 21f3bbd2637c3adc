package e2e

import (
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
	dir                string // of what is built
	binary, lib, model string
	missing            string // why nothing can be run
	once               sync.Once
	gateway            *gateway
	err                error
}

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (code int) {
	if fullSize {
		defer func() {
			if err := writeFaults(os.Stdout, faultsDir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}()
	}
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
	shared.dir, shared.binary = dir, filepath.Join(dir, "llamero")
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

// process is a program under test that logs JSON lines.
type process struct {
	cmd  *exec.Cmd
	log  *logReader
	done chan struct{} // closed when it has ended
}

// launch starts a program with more environment.
func launch(env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), log: newLogReader(), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the process whatever it does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the process and returns how it ended.
func (p *process) ended(t *testing.T) *os.ProcessState {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState
	case <-time.After(stopTimeout):
		t.Fatalf("%s does not end\n%s", p.cmd.Path, p.log)
		return nil
	}
}

// terminate asks the process to end, which it has to do well.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if state := p.ended(t); state.ExitCode() != 0 {
		t.Fatalf("%s: %v\n%s", p.cmd.Path, state, p.log)
	}
}

// gateway is a running llamero.
type gateway struct {
	*process
	url string // http://127.0.0.1:port
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
	return startProgram(shared.binary, env, args...)
}

func startProgram(program string, env []string, args ...string) (*gateway, error) {
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--lib", shared.lib, "--model", shared.model,
		"--alias", model, "--log-format", "json"}, args...)
	p, err := launch(env, program, args...)
	if err != nil {
		return nil, err
	}
	g := &gateway{process: p}
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

// lines are those so far that have the message.
func (l *logReader) lines(msg string) []map[string]any {
	var all []map[string]any
	for text := range strings.Lines(l.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == msg {
			all = append(all, line)
		}
	}
	return all
}

// find waits for a line with the message.
func (l *logReader) find(ctx context.Context, done <-chan struct{}, msg string) (map[string]any, error) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if found := l.lines(msg); len(found) > 0 {
			return found[0], nil
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
