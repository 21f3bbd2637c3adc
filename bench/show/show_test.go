package main

import (
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"llamero/bench"
)

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
		{"show2", append([]string{"--rounds", "2", "--tokens", "10", "--raw", "2ms"}, both...), []string{
			`machine: .*cores`, `llamero: fake, version 1`, `llama-server: fake, version 1`, `serve --listen 127\.0\.0\.1:\d+ --model .* --slots 32 --context 2048 --threads 2 --layout auto`,
			`-np 32 -c 65536 -fa on`, `llama-server +\S+ \(\S+…\S+\) +\d+ +10`, `over the plain loop: .* goal ≤ 1\.03`,
		}},
		{"show3", append([]string{"--rounds", "2", "--clients", "4", "--words", "30", "--tokens", "5", "--curve", "50ms,1s"}, both...), []string{
			`llamero +2 .* 0 +4 of 4\n`, `llama-server +1 .* 0 +\d of 4\n`, `wall, Llamero over llama-server`,
			`ITL p99, llama-server over Llamero`, `--target-itl 1s`, `(?m)^50ms +\d`, `(?m)^1s +\d`,
		}},
		{"show4", append([]string{"--rounds", "1", "--clients", "16", "--words", "8", "--tokens", "48", "--slots", "16"}, both...), []string{
			`three in four end after 6 of 48`, `among the ended over alone: .*: `, `llama-server +15 +\S`, `Llamero, 15 streams over 16`,
		}},
		{"show5", append([]string{"--rounds", "2", "--clients", "40", "--slots", "8", "--words", "20000"}, ours...), []string{
			`(?m)^2 +4 +2 +2 +32 +\d`, `seconds until all slots are free: .* goal ≤ 1: met`, `--queue 256`,
		}},
		{"show6", append([]string{"--clients", "40", "--slots", "4", "--queue", "8"}, ours...), []string{
			`40 requests at once, 4 slots, a queue of 8`, `(?m)^1 +12 +28 +0 .* 1…1\n`, `refusal p99 in ms`,
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
		{"no model", "show2 --llamero " + self, "--model"},
		{"no server", "show2 --llamero= --model " + self, "--peer"},
		{"no such file", "show2 --llamero " + self + " --model /nonexistent", "--model: stat"},
		{"no slots", "show2 --llamero " + self + " --slots 0 --model " + self, "--slots: 0 is not in"},
		{"all are named", "show6 --llamero " + self + " --rounds 0 --clients -1 --model " + self, "--rounds: 0 is not in 1…100\n--clients"},
		{"curve", "show3 --curve 1s,fast", `"fast"`},
		{"curve with a target of hours", "show3 --llamero " + self + " --model " + self + " --curve 1h", "1h0m0s"},
		{"a leftover argument", "show2 model.gguf", "model.gguf"},
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
	if err := failures([]bench.Result{good}, []bench.Result{good}); err != nil {
		t.Errorf("no failure, but %v", err)
	}
	if err := failures([]bench.Result{good}, []bench.Result{bad, good}); err == nil || !strings.Contains(err.Error(), "1 of 7") {
		t.Errorf("got %v, want 1 of 7", err)
	}
}
