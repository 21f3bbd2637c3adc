package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine describes what a run ran on, in one line. What the system does not
// tell is left out.
func Machine() string {
	parts := []string{fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}
	if name := field("/proc/cpuinfo", "model name"); name != "" {
		parts = append(parts, name)
	}
	if total := field("/proc/meminfo", "MemTotal"); total != "" {
		parts = append(parts, "memory "+total)
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		parts = append(parts, "load "+firstWord(string(load)))
	}
	return strings.Join(append(parts, runtime.Version()), ", ")
}

// Version asks a program for its version and returns the line it is in, or why
// there is none.
func Version(ctx context.Context, program string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "version") {
			return strings.TrimSpace(line)
		}
	}
	if err == nil && len(out) > 0 {
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimSpace(line)
	}
	return fmt.Sprintf("version unknown (%v)", err)
}

// field reads the first "key : value" line of a file of /proc.
func field(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
