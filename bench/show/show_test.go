package main

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"llamero/bench"
	"llamero/bench/benchtest"
)

// TestMain lets the test binary stand in for both servers, so that the commands
// run as they do in earnest: child processes, flags, ports, sockets.
func TestMain(m *testing.M) {
	benchtest.Main(os.Args[1:])
	os.Exit(m.Run())
}

// output runs a command as main does and returns what it prints.
func output(t *testing.T, args ...string) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = old }()
	printed := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		printed <- string(b)
	}()
	err = dispatch(t.Context(), args)
	w.Close()
	return <-printed, err
}

func TestCommands(t *testing.T) {
	self := os.Args[0]
	both := []string{"--llamero", self, "--peer", self, "--model", self}
	ours := []string{"--llamero", self, "--model", self}
	tests := []struct {
		command string
		args    []string
		want    []string // patterns
	}{
		{"show4", append([]string{"--rounds", "1", "--clients", "16", "--words", "8", "--tokens", "48", "--slots", "16"}, both...), []string{
			`machine: .*cores`, `llamero: fake, version 1`, `-np 16 -c 32768 -fa on`, `three in four end after 6 of 48`, `among the ended over alone: .*: `, `\| llama-server +\| +15 \| +\S`, `Llamero, 15 streams over 16`,
		}},
		{"show5", append([]string{"--rounds", "2", "--clients", "40", "--slots", "8", "--words", "20000"}, ours...), []string{
			`(?m)^\| 2 +\| +4 \| +2 \| +2 \| +32 \| +\d`, `seconds until all slots are free: .* goal ≤ 1: met`, `--queue 256`,
		}},
		{"show6", append([]string{"--clients", "40", "--slots", "4", "--queue", "8", "--rounds", "2"}, ours...), []string{
			`40 requests at once, 4 slots, a queue of 8`, `(?m)^\| 1 +\| +12 \| +28 \| +0 \| .* 1…1 \|$`, `(?m)^\| 2 +\| +12 \| +28 \| `, `refusal p99 in ms at the client`, `refusal p99 in ms in the server: 0\.\d`, `--log-format json`,
		}},
	}
	for _, test := range tests {
		t.Run(test.command, func(t *testing.T) {
			out, err := output(t, append([]string{test.command}, test.args...)...)
			if err != nil {
				t.Errorf("failed: %v", err)
			}
			for _, pattern := range test.want {
				if !regexp.MustCompile(pattern).MatchString(out) {
					t.Errorf("not printed: %s", pattern)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func TestWrongFlags(t *testing.T) {
	self := os.Args[0]
	tests := []struct{ name, args, want string }{
		{"no such command", "show9", flag.ErrHelp.Error()},
		{"no command", "", flag.ErrHelp.Error()},
		{"no model", "show4 --llamero " + self, "--model"},
		{"no server", "show4 --llamero= --model " + self, "--peer"},
		{"no such file", "show4 --llamero " + self + " --model /nonexistent", "--model: stat"},
		{"no slots", "show4 --llamero " + self + " --slots 0 --model " + self, "--slots: 0 is not in"},
		{"all are named", "show6 --llamero " + self + " --rounds 0 --clients -1 --model " + self, "--rounds: 0 is not in 1…100\n--clients: -1 is not in 1…"},
		{"a leftover argument", "show4 model.gguf", "model.gguf"},
		{"show5 needs a queue", "show5 --clients 8 --slots 8 --llamero " + self + " --model " + self, "must exceed"},
		{"show5 needs Llamero", "show5 --llamero= --peer " + self + " --model " + self, "--llamero"},
		{"show6 needs Llamero", "show6 --llamero= --peer " + self + " --model " + self, "--llamero"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := output(t, strings.Fields(test.args)...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	refused := func(retry string, ms int) bench.Sample {
		return bench.Sample{Status: 429, Err: "429", Retry: retry, Sent: time.Second, Answered: time.Second + time.Duration(ms)*time.Millisecond}
	}
	got := judge([]bench.Sample{
		{Status: 200},
		refused("3", 2), refused("1", 4),
		refused("", 1), refused("60", 1), refused("soon", 1),
		{Status: 500, Err: "500"},
	})
	if got.complete != 1 || got.refused != 2 || got.retryMin != 1 || got.retryMax != 3 || len(got.errs) != 4 {
		t.Errorf("got %+v", got)
	}
	if got.latency.P50 != 3*time.Millisecond || got.latency.Max != 4*time.Millisecond {
		t.Errorf("latency: got %+v", got.latency)
	}
}

func TestFailuresAreAnError(t *testing.T) {
	good, bad := bench.Result{Samples: make([]bench.Sample, 3)}, bench.Result{Samples: []bench.Sample{{Err: "cut"}}}
	if err := failures(good, good); err != nil {
		t.Errorf("no failure, but %v", err)
	}
	if err := failures(good, bad, good); err == nil || !strings.Contains(err.Error(), "1 of 7") {
		t.Errorf("got %v, want 1 of 7", err)
	}
}

// The log is written behind the answers: what is missing is waited for.
func TestRefusalsAreReadFromTheLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	const first = `{"msg":"model loaded"}
{"msg":"request","status":200,"duration":9}
not JSON
{"msg":"request","status":429,"duration":1000}
{"msg":"request","status":429,"duration":2000}
{"msg":"request","status":429,"dur`
	if err := os.WriteFile(name, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := refusals(t.Context(), name, 1, 1); err != nil || !slices.Equal(got, []time.Duration{2000}) {
		t.Errorf("got %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := refusals(ctx, name, 2, 1); err == nil || !strings.Contains(err.Error(), "2 of 3") {
		t.Errorf("half a line is none yet: got %v", err)
	}
}
