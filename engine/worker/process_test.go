//go:build unix

package worker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// TestRestricted: a child can do no more than it needs.
func TestRestricted(t *testing.T) {
	t.Setenv("LLAMERO_API_KEYS", "alice:sesame")
	s := running(t, fakeModel{Limits: enginetest.DefaultLimits(engine.Split), Probe: true}, nil)
	if can := s.Info().Description; can != "" && runtime.GOOS == "linux" {
		t.Errorf("a child has %s", can)
	}
	e := startLetters(t, "") // a tokenizer runs under the same filter, and works
	if err := e.child(t).cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error(err)
	}
}

// TestSlabIsReadOnly: pages that were published are out of a child's reach.
func TestSlabIsReadOnly(t *testing.T) {
	slab, err := NewSlab(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	slab.Bytes[5] = 7
	ring, err := newMemory("ring", 1<<14, false)
	if err != nil {
		t.Fatal(err)
	}
	region, err := mapRegion(slab.File, ring.File, 1<<16, 1<<14)
	if err != nil {
		t.Fatal(err)
	}
	if region[5] != 7 {
		t.Error("the slab is not where it should be")
	}
	region[1<<16+3] = 9
	if ring.Bytes[3] != 9 {
		t.Error("the ring is not where it should be")
	}
	if _, err := slab.File.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the slab's file can be written")
	}
	if slab.File.Truncate(0) == nil || ring.File.Truncate(0) == nil {
		t.Error("memory can be cut off")
	}
	if _, err := mapRegion(slab.File, ring.File, 1<<17, 1<<14); err == nil {
		t.Error("more is mapped than there is")
	}
}

func TestLayout(t *testing.T) {
	unit := int64(os.Getpagesize())
	for _, tt := range []struct{ slab, ring, page int64 }{
		{2304, 200, 72}, {unit, unit, unit}, {10 * unit, 3 * unit, unit + 1}, {1<<30 + 5, 64 << 20, 737280}, {100, 100, 1 << 20},
	} {
		l := newLayout(tt.slab, tt.ring, tt.page)
		if got := int64(l.pages) * tt.page; got > tt.slab || got+tt.page <= tt.slab {
			t.Errorf("%+v: %d pages", tt, l.pages)
		}
		begin, end := int64(l.first)*tt.page, int64(l.first+l.slots)*tt.page
		if l.slots > 0 && (begin < reserved(tt.slab) || end > reserved(tt.slab)+tt.ring || begin-reserved(tt.slab) != l.offset) {
			t.Errorf("%+v: %+v", tt, l)
		}
	}
}

// gatewayVar makes of this binary a gateway that starts a child, says who it is, and
// waits to be killed.
const gatewayVar = "WORKER_TEST_GATEWAY"

func TestGateway(t *testing.T) {
	if os.Getenv(gatewayVar) == "" {
		t.Skip("this is TestEndsWithGateway's")
	}
	s := running(t, fakeModel{}, nil)
	fmt.Println("child", s.bound.pid())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestEndsWithGateway: a gateway that is killed leaves no child, even a stopped one.
func TestEndsWithGateway(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestGateway$", "-test.v")
		cmd.Env = append(os.Environ(), gatewayVar+"=1")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := 0
		for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
			_, _ = fmt.Sscanf(lines.Text(), "child %d", &pid)
		}
		if pid == 0 {
			t.Fatal("the gateway has no child")
		}
		if stopped {
			signalTo(t, pid, syscall.SIGSTOP)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for end := time.Now().Add(soon); alive(pid); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("stopped %v: the child is alive", stopped)
			}
		}
	}
}

// alive reports whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestRelay(t *testing.T) {
	var out bytes.Buffer
	r := newRelay(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	lines := []string{
		`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"a line","source":"llama.cpp","n":3}`,
		`plain`,
		`{"level":"NONE","msg":"not a record"}`,
		`{"msg":`,
		strings.Repeat("x", 3*maxLine),
		`ggml.c:17: GGML_ASSERT(x) failed`,
		`and more`,
	}
	r.run(strings.NewReader(strings.Join(lines, "\n") + strings.Repeat("\nnoise", 5)))
	<-r.done
	text := out.String()
	for _, want := range []string{`level=DEBUG msg="a line" n=3 source=llama.cpp`, `level=WARN msg="engine process" line=plain`, `not a record`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if len(text) > 2*maxLine {
		t.Errorf("%d bytes of log", len(text))
	}
	if got := r.lastWords(); got != lines[5] {
		t.Errorf("last words %q", got)
	}
	out.Reset()
	for range 2 * maxPlain {
		r.line("again")
	}
	if n := strings.Count(out.String(), "again"); n > maxPlain {
		t.Errorf("%d lines", n)
	}
}
