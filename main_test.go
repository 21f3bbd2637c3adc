package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"llamero/configs"
	"llamero/models"
)

// With this variable set the test binary is llamero: the tests see what a shell does.
const asLlamero = "TEST_AS_LLAMERO"

func TestMain(m *testing.M) {
	if os.Getenv(asLlamero) != "" {
		main()
	}
	os.Exit(m.Run())
}

type result struct {
	code           int
	stdout, stderr string
}

// llamero runs the command with an empty cache and only the environment given.
func llamero(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append([]string{asLlamero + "=1", "LLAMERO_CACHE=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GGML_NO_BACKTRACE=1"}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// fakeLibs is a folder that looks like llama.cpp's, with nothing in it that loads.
func fakeLibs(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("library names are Linux's")
	}
	dir := t.TempDir()
	for _, name := range []string{"libllama.so", "libggml.so", "libggml-base.so"} {
		write(t, filepath.Join(dir, name), "not a library")
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever is wrong is said in lines that begin with the program's name, name the
// thing and say what to do; the exit code tells usage from failure.
func TestErrors(t *testing.T) {
	libs := fakeLibs(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	write(t, bad, "engine:\n  slots: 4\n  treads: 2\n")
	page := filepath.Join(dir, "page.gguf")
	write(t, page, "<html>")
	tmpl := filepath.Join(dir, "empty.jinja")
	write(t, tmpl, "")
	gguf := filepath.Join(dir, "tiny.gguf")
	write(t, gguf, tinyGGUF)
	out := filepath.Join(dir, "out.gguf")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the parallel subtests

	tests := []struct {
		name string
		env  []string
		args []string
		code int
		err  []string
	}{
		{"unknown command", nil, []string{"sreve"}, exitUsage, []string{"sreve", "llamero --help"}},
		{"unknown flag", nil, []string{"serve", "--slot", "3"}, exitUsage, []string{"--slot", "llamero serve --help"}},
		{"stray argument", nil, []string{"serve", "model.gguf"}, exitUsage, []string{"model.gguf"}},
		{"bad flag value", nil, []string{"serve", "--slots", "many"}, exitUsage, []string{"--slots", "not a whole number"}},
		{"secret as a flag", nil, []string{"serve", "--api-keys", "a:b"}, exitUsage, []string{"unknown flag: --api-keys"}},
		{"out of range, twice", nil, []string{"serve", "--slots", "0", "--layout", "round"}, exitUsage, []string{"engine.slots: 0", "1 to 250", "engine.layout", "auto, split, unified"}},
		{"bad environment", []string{"LLAMERO_TARGET_ITL=5"}, []string{"serve"}, exitUsage, []string{"scheduler.target_itl", "LLAMERO_TARGET_ITL", "250ms"}},
		{"bad file", nil, []string{"serve", "--config", bad}, exitUsage, []string{"engine.treads", "bad.yaml:3", "threads"}},
		{"file from the environment", []string{"LLAMERO_CONFIG=" + bad}, []string{"serve"}, exitUsage, []string{"bad.yaml:3"}},
		{"no file", nil, []string{"serve", "--config", filepath.Join(dir, "none")}, exitUsage, []string{"configuration file cannot be read"}},
		{"open without keys", nil, []string{"serve", "--listen", "0.0.0.0:0"}, exitUsage, []string{"API keys", "--allow-open", "127.0.0.1"}},
		{"libraries not fetched", nil, []string{"serve", "--backend", "cpu"}, exitFailed, []string{"llamero libs fetch --backend cpu", "--lib"}},
		{"no such library folder", nil, []string{"serve", "--lib", filepath.Join(dir, "none")}, exitFailed, []string{"--lib"}},
		{"folder without libraries", []string{"LLAMERO_LIB=" + dir}, []string{"serve"}, exitFailed, []string{"libllama.so", dir}},
		{"model not fetched", nil, []string{"serve", "--lib", libs}, exitFailed, []string{"llamero models fetch", "--model"}},
		{"no such model", nil, []string{"serve", "--lib", libs, "--model", "none.gguf"}, exitFailed, []string{"none.gguf", "not there"}},
		{"not a model", nil, []string{"serve", "--lib", libs, "--model", page}, exitFailed, []string{page, "not a GGUF"}},
		{"template empty", nil, []string{"serve", "--lib", libs, "--model", gguf, "--chat-template-file", tmpl}, exitFailed, []string{"--chat-template-file"}},
		{"port taken", nil, []string{"serve", "--lib", libs, "--model", gguf, "--listen", taken.Addr().String()}, exitFailed, []string{taken.Addr().String(), "in use", "--listen"}},
		{"library does not load", nil, []string{"serve", "--lib", libs, "--model", gguf, "--listen", "127.0.0.1:0"}, exitFailed, []string{libs}},
		{"models path", nil, []string{"models", "path"}, exitFailed, []string{"llamero models fetch"}},
		{"path of what was fetched", nil, []string{"models", "path", "--fetched"}, exitFailed, []string{"llamero models fetch"}},
		{"inspect nothing", nil, []string{"models", "inspect"}, exitFailed, []string{"llamero models fetch"}},
		{"inspect no file", nil, []string{"models", "inspect", "none.gguf"}, exitFailed, []string{"none.gguf", "not there"}},
		{"inspect a page", nil, []string{"models", "inspect", page}, exitFailed, []string{page, "not a GGUF"}},
		{"inspect with no memory", nil, []string{"models", "inspect", gguf, "--kv-memory", "some"}, exitUsage, []string{"--kv-memory", "2GiB"}},
		{"quantize nothing", nil, []string{"models", "quantize"}, exitUsage, []string{"models quantize --help"}},
		{"quantize without a type", nil, []string{"models", "quantize", gguf, out}, exitUsage, []string{"--type is needed", "q4_k_m"}},
		{"quantize to no type", nil, []string{"models", "quantize", gguf, out, "--type", "q9_9"}, exitUsage, []string{"--type", `"q9_9"`, "q8_0"}},
		{"quantize without libraries", nil, []string{"models", "quantize", gguf, out, "--type", "q8_0", "--backend", "cpu"}, exitFailed, []string{"llamero libs fetch --backend cpu"}},
		{"quantize on no threads", nil, []string{"models", "quantize", gguf, out, "--type", "q8_0", "--threads", "0"}, exitUsage, []string{"--threads"}},
		{"quantize a page", nil, []string{"models", "quantize", page, out, "--type", "q8_0", "--lib", libs}, exitFailed, []string{page, "not a GGUF"}},
		{"quantize over it", nil, []string{"models", "quantize", gguf, gguf, "--type", "q8_0", "--lib", libs, "--force"}, exitFailed, []string{"is the input"}},
		{"quantize over another", nil, []string{"models", "quantize", gguf, page, "--type", "q8_0", "--lib", libs}, exitFailed, []string{page, "--force"}},
		{"quantize into no folder", nil, []string{"models", "quantize", gguf, filepath.Join(dir, "no", "where"), "--type", "q8_0", "--lib", libs}, exitFailed, []string{"folder"}},
		{"quantize with no library", nil, []string{"models", "quantize", gguf, out, "--type", "q8_0", "--lib", libs}, exitFailed, []string{gguf, "does not load"}},
		{"tune to no type", nil, []string{"models", "tune", gguf, "--types", "q8_0,q9_9"}, exitUsage, []string{"--types", `"q9_9"`}},
		{"tune twice", nil, []string{"models", "tune", gguf, "--types", "q8_0,q8_0", "--rounds", "0"}, exitUsage, []string{"q8_0 is named twice", "--rounds: 0"}},
		{"tune nothing", nil, []string{"models", "tune"}, exitFailed, []string{"llamero models fetch"}},
		{"tune into no file", nil, []string{"models", "tune", gguf, "--lib", libs, "--json", filepath.Join(dir, "no", "where")}, exitFailed, []string{"--json"}},
		{"libs of no backend", nil, []string{"libs", "fetch", "--backend", "abacus"}, exitFailed, []string{"abacus", "--lib"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := llamero(t, tt.env, tt.args...)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d", r.code, tt.code)
			}
			for _, want := range tt.err {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("stderr lacks %q", want)
				}
			}
			for line := range strings.Lines(r.stderr) {
				if !strings.HasPrefix(line, "llamero: ") {
					t.Errorf("a line is not the program's: %q", line)
				}
			}
			if r.stdout != "" {
				t.Errorf("stdout: %q", r.stdout)
			}
			if t.Failed() {
				t.Logf("stderr:\n%s", r.stderr)
			}
		})
	}
}

// tinyGGUF has a header and one tensor, enough to get past the check of the file.
var tinyGGUF = "GGUF\x03\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00w" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	strings.Repeat("\x00", 64)

// What is inspected can be read by people and by programs.
func TestInspect(t *testing.T) {
	gguf := filepath.Join(t.TempDir(), "tiny.gguf")
	write(t, gguf, tinyGGUF)
	r := llamero(t, nil, "models", "inspect", gguf, "--kv-memory", "64MiB")
	if r.code != 0 || !strings.Contains(r.stdout, gguf) || !strings.Contains(r.stdout, "| F32 ") {
		t.Errorf("%+v", r)
	}
	r = llamero(t, nil, "models", "inspect", gguf, "--json")
	var d struct {
		Parameters int64
		Types      []struct{ Type string }
		Memory     struct{ Weights int64 }
	}
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || d.Parameters != 1 || len(d.Types) != 1 || d.Memory.Weights != int64(len(tinyGGUF)) {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		r := llamero(t, nil, args...)
		if r.code != 0 || !strings.Contains(r.stdout, "serve") || !strings.Contains(r.stdout, "completion") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	// Every setting is in serve's help with its flag, variable and documentation.
	r := llamero(t, nil, "serve", "--help")
	for _, f := range configs.Fields() {
		if f.Flag != "" && (!strings.Contains(r.stdout, "--"+f.Flag+" ") || !strings.Contains(r.stdout, f.Doc)) {
			t.Errorf("serve --help lacks --%s", f.Flag)
		}
		if !strings.Contains(r.stdout, f.Env) {
			t.Errorf("serve --help lacks %s", f.Env)
		}
	}
	r = llamero(t, nil, "__complete", "serve", "--layout", "")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "auto\nsplit\nunified\n") {
		t.Errorf("completion of --layout: %+v", r)
	}
}

func TestVersion(t *testing.T) {
	r := llamero(t, nil, "version")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "llamero ") || !strings.Contains(r.stdout, "llama.cpp "+models.LlamaCPPVersion()) {
		t.Errorf("%+v", r)
	}
}

// --print-config shows what is in effect and reads back, without secrets.
func TestPrintConfig(t *testing.T) {
	r := llamero(t, []string{"LLAMERO_API_KEYS=alice:swordfish", "LLAMERO_CONTEXT=2048"}, "serve", "--slots", "3", "--print-config")
	if r.code != 0 || !strings.Contains(r.stdout, "slots: 3\n") || !strings.Contains(r.stdout, "context: 2048\n") {
		t.Fatalf("%+v", r)
	}
	if strings.Contains(r.stdout+r.stderr, "swordfish") {
		t.Error("a secret shows")
	}
	file := filepath.Join(t.TempDir(), "c.yaml")
	write(t, file, r.stdout)
	again := llamero(t, []string{"LLAMERO_API_KEYS=alice:swordfish"}, "serve", "--config", file, "--print-config")
	if again.stdout != r.stdout {
		t.Errorf("read back:\n%s\nwant:\n%s", again.stdout, r.stdout)
	}
}

func TestAlias(t *testing.T) {
	for _, tt := range []struct {
		m    configs.Model
		want string
	}{
		{configs.Model{Path: "default"}, models.DefaultName()},
		{configs.Model{Path: "/x/Qwen3-0.6B.Q4_0.gguf"}, "Qwen3-0.6B.Q4_0"},
		{configs.Model{Path: "default", Alias: "tiny"}, "tiny"},
	} {
		if got := alias(tt.m); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.m, got, tt.want)
		}
	}
}

// The README's table of settings is the one in the code. With
// LLAMERO_UPDATE_README=1 the test writes it.
func TestREADME(t *testing.T) {
	const begin, end = "<!-- settings -->\n", "<!-- /settings -->\n"
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("README.md has no marked table of settings")
	}
	// Only defaults that are the same on every machine are printed.
	want := head + begin + configs.Markdown() + end + tail
	if want == string(b) {
		return
	}
	if os.Getenv("LLAMERO_UPDATE_README") == "" {
		t.Fatal("README.md's table of settings is old: LLAMERO_UPDATE_README=1 go test -run README . writes it")
	}
	write(t, "README.md", want)
}
