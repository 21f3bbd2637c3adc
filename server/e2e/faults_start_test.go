package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startCase is a start that cannot be.
type startCase struct {
	name string
	args []string
	wrap []string // a command that runs the gateway
	want []string // words of the line
}

// TestStartFaults: what is wrong at the start is one line that names the thing and
// says what to do, and an exit code that is not 0.
func TestStartFaults(t *testing.T) {
	row := newRow(t, rowStart, "disk full, model damaged, library missing or of another version, port taken, configuration wrong")
	need(t, shared.missing == "", shared.missing)
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	whole, err := os.ReadFile(shared.model)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damaged := bytes.Clone(whole)
	copy(damaged[len("GGUF")+4:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	renamed := bytes.Replace(whole, []byte("token_embd.weight"), []byte("token_embx.weight"), 1)
	cases := []startCase{
		{name: "port taken", args: []string{"--listen", taken.Addr().String()}, want: []string{taken.Addr().String(), "in use", "--listen"}},
		{name: "configuration wrong", args: []string{"--slots", "0"}, want: []string{"engine.slots", "1 to 250"}},
		{name: "model missing", args: []string{"--model", filepath.Join(dir, "none.gguf")}, want: []string{"none.gguf", "not there", "--model"}},
		{name: "model not a GGUF", args: []string{"--model", file("page.gguf", []byte("<html>"))}, want: []string{"page.gguf", "not a GGUF"}},
		{name: "model cut in its header", args: []string{"--model", file("head.gguf", whole[:1000])}, want: []string{"head.gguf", "truncated"}},
		{name: "model cut in its weights", args: []string{"--model", file("half.gguf", whole[:len(whole)/2])}, want: []string{"half.gguf", "truncated"}},
		{name: "model cut at its end", args: []string{"--model", file("end.gguf", whole[:len(whole)-100])}, want: []string{"end.gguf", "file bounds", "--model"}},
		{name: "model with a damaged header", args: []string{"--model", file("damaged.gguf", damaged)}, want: []string{"damaged.gguf", "damaged"}},
		{name: "model without a tensor that it needs", args: []string{"--model", file("renamed.gguf", renamed)}, want: []string{"renamed.gguf", "token_embd", "--model"}},
		{name: "draft model missing", args: []string{"--draft-model", filepath.Join(dir, "small.gguf")}, want: []string{"small.gguf", "not there", "--draft-model"}},
		{name: "draft model cut in its weights", args: []string{"--draft-model", file("draft.gguf", whole[:len(whole)/2])}, want: []string{"draft.gguf", "truncated", "--draft-model"}},
		{name: "draft model not named", args: []string{"--spec", "draft"}, want: []string{"spec.mode", "--draft-model"}},
		{name: "library folder missing", args: []string{"--lib", filepath.Join(dir, "none")}, want: []string{"none", "--lib"}},
		{name: "library missing", args: []string{"--lib", library(t, "missing", func([]byte) []byte { return nil })}, want: []string{"libllama.so", "--lib"}},
		{name: "library of another version", args: []string{"--lib", library(t, "older", func(b []byte) []byte {
			return bytes.Replace(b, []byte("\x000.5.0"), []byte("\x000.4.9"), 1)
		})}, want: []string{"older", "0.4.9", "v0.5.0 is needed"}},
		{name: "library that is none", args: []string{"--lib", library(t, "text", func([]byte) []byte { return []byte("text") })}, want: []string{"text", "does not load"}},
		{name: "cache folder that is a file", args: []string{"--cache-dir", file("pages", nil)}, want: []string{"pages", "--cache-dir"}},
	}
	if wrap := onFullDisk(filepath.Join(dir, "disk")); wrap != nil {
		cases = append(cases, startCase{name: "disk full", args: []string{"--cache-dir", filepath.Join(dir, "disk", "pages"), "--cache-memory", "64MiB"}, wrap: wrap,
			want: []string{"no space left", "--cache-dir", "--cache-memory"}})
	} else {
		t.Log("disk full is not tested: nothing may be mounted here")
	}
	held := 0
	for _, c := range cases {
		if t.Run(c.name, c.run) {
			held++
		}
	}
	row.figure("%d of %d starts ended with one line that says what to do and an exit code other than 0", held, len(cases))
}

func (c startCase) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	argv := append(append([]string{}, c.wrap...), shared.binary, "serve", "--listen", "127.0.0.1:0", "--lib", shared.lib, "--model", shared.model)
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], c.args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("it does not end\n%s", &stderr)
	}
	if err == nil || cmd.ProcessState.ExitCode() <= 0 {
		t.Errorf("%v", cmd.ProcessState)
	}
	var said []string
	for line := range strings.Lines(stderr.String()) {
		if ours, ok := strings.CutPrefix(line, "llamero: "); ok {
			said = append(said, ours)
		} else if !strings.HasPrefix(line, "time=") || strings.Contains(line, "level=ERROR") {
			t.Errorf("a line that is not the program's: %q", line)
		}
	}
	if len(said) != 1 || stdout.Len() > 0 {
		t.Errorf("%d lines, and on stdout %q\n%s", len(said), &stdout, &stderr)
	}
	for _, want := range c.want {
		if !strings.Contains(strings.Join(said, ""), want) {
			t.Errorf("it lacks %q: %q", want, said)
		}
	}
}

// library is a folder of the libraries in which libllama is another one, or missing.
func library(t *testing.T, name string, change func([]byte) []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(shared.lib)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(shared.lib, e.Name()), filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), "libllama.") {
			if err := os.Symlink(from, to); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if b = change(b); b == nil {
			continue
		}
		if err := os.WriteFile(to, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// onFullDisk is a command that runs another one with a disk of 8 MiB mounted, which
// nobody else sees; nil where that may not be done.
func onFullDisk(at string) []string {
	if os.Mkdir(at, 0o700) != nil {
		return nil
	}
	for _, flags := range [][]string{{"--mount"}, {"--user", "--map-root-user", "--mount"}} {
		wrap := append(append([]string{"unshare"}, flags...), "sh", "-c", fmt.Sprintf(`mount -t tmpfs -o size=8m none '%s' && exec "$@"`, at), "sh")
		if exec.Command(wrap[0], append(wrap[1:], "true")...).Run() == nil {
			return wrap
		}
	}
	return nil
}
