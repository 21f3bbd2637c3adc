package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"llamero/models"
)

// stream starts a streamed completion and returns its lines once the first token
// has come. cancel makes the client go away.
func stream(t *testing.T, g *gateway, maxTokens string) (lines *bufio.Scanner, cancel func()) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), requestTimeout)
	body := `{"model":"` + model + `","prompt":"Once upon a time","stream":true,"ignore_eos":true,"temperature":0,"max_tokens":` + maxTokens + `}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel = func() { stop(); resp.Body.Close() }
	t.Cleanup(cancel)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	lines = bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			return lines, cancel
		}
	}
	t.Fatalf("the stream ended before its first token: %v", lines.Err())
	return nil, nil
}

// A client that goes away frees its slot: with one slot, the next request does not
// wait for the thousands of tokens that nobody reads.
func TestDisconnectFreesSlot(t *testing.T) {
	g := own(t, nil, "--slots", "1", "--context", "8192")
	_, cancel := stream(t, g, "8000")
	cancel()
	start := time.Now()
	status, body := g.post(t, "/v1/completions", `{"model":"`+model+`","prompt":"Hello","max_tokens":1}`)
	took := time.Since(start)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	line, err := g.log.find(ctx, g.done, "request")
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := line["output_tokens"].(float64); n >= 8000 {
		t.Errorf("the stream ran to its end: %v", line)
	}
	t.Logf("the next request took %v", took)
}

// SIGINT: readiness flips, new requests are refused, the running stream ends whole,
// and the process exits 0.
func TestDrain(t *testing.T) {
	g := own(t, nil, "--slots", "2", "--context", "2048", "--drain-timeout", "5m")
	lines, _ := stream(t, g, "200")
	g.signal(t, syscall.SIGINT)
	ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
	defer stop()
	if _, err := g.log.find(ctx, g.done, "draining; a second signal ends at once"); err != nil {
		t.Fatal(err)
	}
	// While the stream runs the port answers. It may be gone already on a fast machine.
	if resp, err := http.Post(g.url+"/v1/completions", "application/json", strings.NewReader(`{"model":"`+model+`","prompt":"x","max_tokens":1}`)); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a new request gets %d", resp.StatusCode)
		}
	}
	var text []string
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			text = append(text, data)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 || text[len(text)-1] != "[DONE]" {
		t.Fatalf("the stream was cut off after %d chunks", len(text))
	}
	if strings.Contains(strings.Join(text, ""), `"error"`) {
		t.Error("the stream holds an error")
	}
	if state := g.ended(t); state.ExitCode() != 0 {
		t.Errorf("exit %v\n%s", state, g.log)
	}
}

// What the drain time cuts off ends with an error in the stream, never silently.
func TestDrainTimeout(t *testing.T) {
	g := own(t, nil, "--slots", "1", "--context", "8192", "--drain-timeout", "100ms")
	lines, _ := stream(t, g, "8000")
	g.signal(t, syscall.SIGTERM)
	last := ""
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			last = data
		}
	}
	if !strings.Contains(last, `"error"`) {
		t.Errorf("the stream's last word is %q", last)
	}
	if state := g.ended(t); state.ExitCode() != 0 {
		t.Errorf("exit %v\n%s", state, g.log)
	}
}

// A second signal does not wait.
func TestSecondSignal(t *testing.T) {
	g := own(t, nil, "--slots", "1", "--context", "8192", "--drain-timeout", "1h")
	stream(t, g, "8000")
	g.signal(t, syscall.SIGINT)
	ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
	defer stop()
	if _, err := g.log.find(ctx, g.done, "draining; a second signal ends at once"); err != nil {
		t.Fatal(err)
	}
	g.signal(t, syscall.SIGINT)
	if state := g.ended(t); state.ExitCode() == 0 {
		t.Errorf("exit %v", state)
	}
}

func TestAPIKeys(t *testing.T) {
	g := own(t, []string{"LLAMERO_API_KEYS=alice:sesame"}, "--slots", "1", "--context", "512")
	for _, tt := range []struct {
		path, key string
		want      int
	}{
		{"/v1/models", "", 401},
		{"/v1/models", "sesam", 401},
		{"/v1/models", "sesame", 200},
		{"/readyz", "", 200},
		{"/healthz", "", 200},
	} {
		req, err := http.NewRequest(http.MethodGet, g.url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.key != "" {
			req.Header.Set("Authorization", "Bearer "+tt.key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s with key %q: %d %s", tt.path, tt.key, resp.StatusCode, body)
		}
	}
	if strings.Contains(g.log.String(), "sesame") {
		t.Error("the log shows a secret")
	}
}

// Once fetched, nothing needs a network: fetching again and serving work where
// neither npm nor pip can be found.
func TestOffline(t *testing.T) {
	need(t, shared.missing == "", shared.missing)
	_, err := models.ResolveLibs("", "cpu")
	need(t, err == nil, "the libraries are not in the cache")
	offline := []string{"PATH=" + t.TempDir(), "HTTPS_PROXY=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9"}
	for _, args := range [][]string{{"libs", "fetch", "--backend", "cpu"}, {"models", "fetch"}} {
		cmd := exec.Command(shared.binary, args...)
		cmd.Env = append(os.Environ(), offline...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	g := own(t, offline, "--slots", "1", "--context", "512", "--model", models.Default, "--lib", "")
	if status, body := g.post(t, "/v1/completions", `{"model":"`+model+`","prompt":"Hello","max_tokens":2}`); status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
}

// A chat template from a file takes the place of the model's own.
func TestTemplateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.jinja")
	if err := os.WriteFile(file, []byte("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := own(t, nil, "--slots", "1", "--context", "512", "--chat-template-file", file)
	status, body := g.post(t, "/apply-template", `{"messages":[{"role":"user","content":"hi"}]}`)
	var got struct{ Prompt string }
	if err := json.Unmarshal(body, &got); err != nil || status != http.StatusOK || got.Prompt != "[user] hi" {
		t.Errorf("status %d: %s (%v)", status, body, err)
	}
}
