package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"llamero/models"
)

// script runs a client in another language; it prints "ok" as its last line when
// all that it asserts held.
func script(t *testing.T, g *gateway, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*requestTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LLAMERO_URL="+g.url, "LLAMERO_ALIAS="+model)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.HasSuffix(bytes.TrimSpace(out), []byte("ok")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPythonSDK(t *testing.T) {
	venv := os.Getenv("LLAMERO_E2E_VENV")
	need(t, venv != "", "LLAMERO_E2E_VENV names no Python environment")
	script(t, running(t), filepath.Join(venv, "bin", "python"), "client.py")
}

func TestNodeSDK(t *testing.T) {
	_, err := os.Stat(filepath.Join("node", "node_modules", "openai"))
	need(t, err == nil, "npm ci has not been run in server/e2e/node")
	script(t, running(t), "node", filepath.Join("node", "client.mjs"))
}

func curl(t *testing.T, args ...string) string {
	t.Helper()
	_, err := exec.LookPath("curl")
	need(t, err == nil, "curl is not installed")
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "curl", append([]string{"-sS", "-N"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The README's curl line, as a shell would run it.
func TestCurl(t *testing.T) {
	g := running(t)
	body := `{"model":"` + model + `","stream":true,"max_tokens":8,"messages":[{"role":"user","content":"Hi"}]}`
	out := curl(t, "-i", g.url+"/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body)
	head, rest, _ := strings.Cut(out, "\r\n\r\n")
	for _, want := range []string{"200 OK", "text/event-stream", "no-cache", "X-Accel-Buffering: no", "X-Request-Id: "} {
		if !strings.Contains(strings.ToLower(head), strings.ToLower(want)) {
			t.Errorf("the head lacks %q:\n%s", want, head)
		}
	}
	if !strings.HasPrefix(rest, "data: {") || !strings.HasSuffix(rest, "data: [DONE]\n\n") {
		t.Errorf("the stream is\n%s", rest)
	}
	for event := range strings.SplitSeq(strings.TrimSpace(rest), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || data != "[DONE]" && !json.Valid([]byte(data)) {
			t.Errorf("an event is %q", event)
		}
	}
	// Without a content type, as most people try first; the answer is JSON.
	out = curl(t, g.url+"/v1/completions", "-d", `{"model":"`+model+`","prompt":"Hi","max_tokens":2}`)
	if !json.Valid([]byte(out)) || !strings.Contains(out, `"text_completion"`) {
		t.Errorf("got %s", out)
	}
	// Errors have OpenAI's shape, for what is no route and no JSON too.
	for path, body := range map[string]string{"/v1/nothing": "{}", "/v1/chat/completions": "{"} {
		out = curl(t, g.url+path, "-d", body)
		var e struct {
			Error struct{ Message, Type string }
		}
		if err := json.Unmarshal([]byte(out), &e); err != nil || e.Error.Message == "" || e.Error.Type == "" {
			t.Errorf("%s: %s", path, out)
		}
	}
}

// The examples on the README's first screen work as they stand, but for the port.
func TestREADME(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(begin string) string {
		_, rest, ok := strings.Cut(string(b), begin)
		code, _, ok2 := strings.Cut(rest, "```")
		if !ok || !ok2 {
			t.Fatalf("README.md has no block that begins with %q", begin)
		}
		return code
	}
	g := running(t)
	here := strings.NewReplacer("http://127.0.0.1:8080", g.url, models.DefaultName(), model)
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()

	out, err := exec.CommandContext(ctx, "sh", "-c", "curl "+here.Replace(block("```sh\ncurl "))).Output()
	if err != nil || !strings.HasPrefix(string(out), "data: {") || !strings.HasSuffix(string(out), "data: [DONE]\n\n") {
		t.Errorf("curl: %v\n%s", err, out)
	}
	venv := os.Getenv("LLAMERO_E2E_VENV")
	need(t, venv != "", "LLAMERO_E2E_VENV names no Python environment")
	out, err = exec.CommandContext(ctx, filepath.Join(venv, "bin", "python"), "-c", here.Replace(block("```python\n"))).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Errorf("python: %v\n%s", err, out)
	}
}

// Text to tokens and back, as llama-server has it.
func TestCurlTokenize(t *testing.T) {
	g := running(t)
	out := curl(t, g.url+"/tokenize", "-d", `{"content":"Llamas hum. 🦙"}`)
	var in struct{ Tokens []int }
	if err := json.Unmarshal([]byte(out), &in); err != nil || len(in.Tokens) < 3 {
		t.Fatalf("%s (%v)", out, err)
	}
	tokens, _ := json.Marshal(in)
	out = curl(t, g.url+"/detokenize", "-d", strings.ToLower(string(tokens)))
	var back struct{ Content string }
	if err := json.Unmarshal([]byte(out), &back); err != nil || back.Content != "Llamas hum. 🦙" {
		t.Errorf("%s (%v)", out, err)
	}
}
