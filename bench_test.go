package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"llamero/bench"
	"llamero/bench/benchtest"
	"llamero/configs"
)

// With this variable set the test binary is a fake server where it is told to serve,
// and Llamero for every other command.
const asServer = "LLAMERO_TEST_SERVER"

func init() {
	if os.Getenv(asServer) != "" {
		benchtest.Main(os.Args[1:])
	}
}

// benchmark runs `llamero bench` with fake servers on a fake model.
func benchmark(t *testing.T, env []string, args ...string) result {
	t.Helper()
	return llamero(t, append(benchEnv(t), env...), append([]string{"bench"}, args...)...)
}

func benchEnv(t *testing.T) []string {
	t.Helper()
	gguf := filepath.Join(t.TempDir(), "tiny.gguf")
	write(t, gguf, tinyGGUF)
	return []string{asServer + "=1", "LLAMERO_MODEL=" + gguf, "LLAMERO_LIB=" + fakeLibs(t), "TMPDIR=" + t.TempDir()}
}

func TestBench(t *testing.T) {
	dir := t.TempDir()
	report, plots := filepath.Join(dir, "report.json"), filepath.Join(dir, "plots")
	r := benchmark(t, []string{benchtest.EnvTwist + "=3"}, "--peer", os.Args[0], "--compare", "--workload", "single,turns,copy,poisson", "--rounds", "2",
		"--clients", "5", "--words", "20", "--tokens", "6", "--turns", "2", "--system-words", "9", "--rate", "500", "--slots", "4", "--context", "512", "--threads", "3",
		"--server-arg=--kv-memory=64MiB", "--peer-arg=--no-mmap", "--json", report, "--plots", plots)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, pattern := range []string{
		`(?m)^machine: .* cores`, `(?m)^llamero: fake, version 1$`, `(?m)^llama-server: fake, version 1$`,
		`serve --listen \S+ --model \S+tiny.gguf --alias bench --slots 4 --context 512 --threads 3 --lib \S+ --layout auto --target-itl 600ms --queue 64 --queue-timeout 10m0s --kv-memory=64MiB`,
		`-t 3 -np 4 -c 2048 -fa on --no-mmap`,
		`(?m)^### turns: `, `10 requests of 20 words and 6 tokens, seed 1, 2 turns behind a system prompt of 9 words, rounds: 2`, `5 requests .*, 500 a second`,
		`(?m)^\| llamero / llama-server \| \d`, `0 of 2 answers of llamero are llama-server's`, `The others part after \d+ \(\d+…\d+\) characters of `,
		`written: \S+workloads.png`, `written: \S+report.json`,
	} {
		if !regexp.MustCompile(pattern).MatchString(r.stdout) {
			t.Errorf("stdout lacks %s", pattern)
		}
	}
	if !strings.Contains(r.stderr, "[16/16] ") {
		t.Errorf("progress:\n%s", r.stderr)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var got bench.Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 4 || len(got.Subjects) != 2 || got.Rounds != 2 || len(got.Command) == 0 || got.Machine == "" {
		t.Errorf("report %+v", got)
	}
	if run := got.Runs[1]; run.Options.Clients != 5 || run.Requests != 10 || len(run.Subjects[1].Rounds) != 2 || run.Subjects[1].Rounds[1].Tokens != 60 ||
		len(run.Ratios) != 1 || run.Compare == nil || run.Compare.Answers != 20 {
		t.Errorf("turns: %+v", run)
	}
	f, err := os.Open(filepath.Join(plots, "workloads.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(r.stdout)
	}
}

func TestBenchSweeps(t *testing.T) {
	dir := t.TempDir()
	r := benchmark(t, nil, "--peer", os.Args[0], "--workload", "disjoint", "--rounds", "2", "--clients", "3", "--words", "10", "--tokens", "3", "--slots", "2",
		"--sweep", "clients=1,2,4", "--sweep", "target-itl=50ms,1s", "--json", filepath.Join(dir, "r.json"), "--plots", dir)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, pattern := range []string{
		`(?m)^### sweep over clients$`, `(?m)^workload disjoint, 10 words a prompt, 3 tokens an answer\.$`, `llama-server ITL p99 ms`, `(?m)^\| 4 `,
		`(?m)^### sweep over target-itl$`, `(?m)^\| 50ms `, `sweep-clients-disjoint.svg`, `sweep-target-itl-disjoint.png`, `--queue 64`,
	} {
		if !regexp.MustCompile(pattern).MatchString(r.stdout) {
			t.Errorf("stdout lacks %s\n%s", pattern, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "### disjoint") || !strings.Contains(r.stderr, "[16/16] ") {
		t.Errorf("the workloads were run, too, or not all runs counted:\n%s", r.stderr)
	}
}

// Servers that run already are driven as they stand, each with a key of its own.
func TestBenchURLs(t *testing.T) {
	target, peer := benchtest.New(4), benchtest.New(4)
	var urls []string
	for _, s := range []*benchtest.Server{target, peer} {
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	r := llamero(t, []string{"LLAMERO_BENCH_KEY=swordfish", "LLAMERO_BENCH_PEER_KEY=trout"}, "bench", "--target", urls[0], "--target-model", "mine",
		"--peer", urls[1], "--workload", "shared", "--clients", "2", "--words", "10", "--tokens", "3", "--rounds", "1", "--compare")
	if r.code != 0 || !strings.Contains(r.stdout, "2 of 2 answers of target are peer's") || strings.Contains(r.stdout+r.stderr, "swordfish") {
		t.Errorf("%+v", r)
	}
	for i, s := range []*benchtest.Server{target, peer} {
		asked := s.Asked()
		want := []benchtest.Asked{{Model: "mine", Key: "Bearer swordfish"}, {Model: "first", Key: "Bearer trout"}}[i]
		if len(asked) != 3 || asked[2].Model != want.Model || asked[2].Key != want.Key || !asked[2].IgnoreEOS {
			t.Errorf("server %d was asked %+v", i, asked)
		}
	}
}

func TestBenchErrors(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		w.Write([]byte("not today"))
	}))
	t.Cleanup(refuses.Close)
	s := benchtest.New(2)
	var n atomic.Int64
	sometimes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 3 {
			http.Error(w, "overslept", http.StatusInternalServerError)
			return
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(sometimes.Close)
	self := os.Args[0]
	tests := []struct {
		name   string
		env    []string
		args   string
		code   int
		err    []string
		stdout string
	}{
		{"every wrong flag is named", nil, "--rounds 0 --words 0 --tokens 9999999 --slots 0 --layout round --workload disjoint,nothing --sweep colour=1 --compare", exitUsage,
			[]string{"--rounds: 0 is not in 1…100", "--words: 0", "--tokens: 9999999", "engine.slots: 0", "engine.layout", `--workload: "nothing"`, "--sweep: \"colour=1\"", "--compare: a target and a --peer"}, ""},
		{"poisson's rate", nil, "--workload poisson --rate -1", exitUsage, []string{"--rate: -1"}, ""},
		{"sweep that does not fit", nil, "--workload single --sweep clients=1,2", exitUsage, []string{"--sweep: clients: workload single has one"}, ""},
		{"target-itl of a URL", nil, "--target http://127.0.0.1:1 --sweep target-itl=50ms", exitUsage, []string{"--sweep: target-itl starts the target"}, ""},
		{"nothing to measure", nil, "--target none", exitUsage, []string{"--target: there is nothing to measure"}, ""},
		{"model of a program", nil, "--target-model x --peer-model y", exitUsage, []string{"--target-model", "--peer-model"}, ""},
		{"server-arg", nil, "--server-arg=--slots=many", exitUsage, []string{"--server-arg", "many"}, ""},
		{"stray argument", nil, "disjoint", exitUsage, []string{"disjoint", "llamero bench --help"}, ""},
		{"no model", []string{"LLAMERO_MODEL=none.gguf"}, "", exitFailed, []string{"none.gguf", "not there"}, ""},
		{"no peer", nil, "--peer /nonexistent", exitFailed, []string{"start llama-server"}, ""},
		{"nobody there", nil, "--target http://127.0.0.1:1", exitFailed, []string{"target", "refused"}, ""},
		{"refused from the first", nil, "--target-model m --target " + refuses.URL, exitFailed, []string{"a first request failed", "not today"}, ""},
		{"a request fails", nil, "--target-model m --workload disjoint --clients 2 --words 5 --tokens 2 --rounds 2 --target " + sometimes.URL, exitFailed,
			[]string{"overslept", "1 of 4 requests failed"}, "### disjoint"},
		{"the server dies", []string{benchtest.EnvDie + "=3"}, "--target " + self + " --workload disjoint --clients 4 --words 5 --tokens 2", exitFailed,
			[]string{"exit status 7", "out of luck", "serve --listen"}, ""},
		{"no folder for the report", nil, "--target " + self + " --json " + filepath.Join(t.TempDir(), "none", "r.json"), exitFailed, []string{"the report"}, ""},
		{"raw without libraries", nil, "--target none --raw --workload single", exitFailed, []string{"raw-run", "exit status 1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := benchmark(t, tt.env, strings.Fields(tt.args)...)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d", r.code, tt.code)
			}
			for _, want := range tt.err {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("stderr lacks %q", want)
				}
			}
			if tt.stdout == "" && tt.code == exitUsage && r.stdout != "" || !strings.Contains(r.stdout, tt.stdout) {
				t.Errorf("stdout: %q", r.stdout)
			}
			if t.Failed() {
				t.Logf("stderr:\n%s", r.stderr)
			}
		})
	}
}

// Ctrl-C ends the run and its servers.
func TestBenchInterrupted(t *testing.T) {
	started, report := filepath.Join(t.TempDir(), "started"), filepath.Join(t.TempDir(), "r.json")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "bench", "--workload", "disjoint", "--clients", "2", "--words", "5", "--tokens", "5000", "--json", report)
	cmd.Env = append(append(benchEnv(t), asLlamero+"=1", "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir()), benchtest.EnvStarted+"="+started, benchtest.EnvStep+"=50ms")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	until(t, func() bool {
		b, _ := os.ReadFile(started)
		addr = string(b)
		return addr != ""
	})
	// Past the first request, in the middle of a run.
	until(t, func() bool {
		resp, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var health struct{ Running int }
		return json.NewDecoder(resp.Body).Decode(&health) == nil && health.Running == 2
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "llamero: interrupted") {
		t.Errorf("exit code %d\n%s", cmd.ProcessState.ExitCode(), &stderr)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the server is still there")
	}
	if left, _ := os.ReadDir(filepath.Dir(report)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// until waits for a condition.
func until(t *testing.T, is func() bool) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(limit) {
			t.Fatal("it did not come to pass")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// The engine alone, on the real library and model.
func TestBenchRaw(t *testing.T) {
	lib, model := os.Getenv("LLAMERO_LIB"), os.Getenv("LLAMERO_MODEL")
	if lib == "" || model == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("LLAMERO_LIB and LLAMERO_MODEL name what to run")
		}
		t.Skip("LLAMERO_LIB and LLAMERO_MODEL name what to run")
	}
	r := llamero(t, []string{"LLAMERO_LIB=" + lib, "LLAMERO_MODEL=" + model}, "bench", "--target", "none", "--raw", "--workload", "shared", "--clients", "3",
		"--words", "80", "--tokens", "4", "--rounds", "1", "--slots", "4", "--context", "512")
	if r.code != 0 || !regexp.MustCompile(`(?m)^\| raw +\| +\d`).MatchString(r.stdout) {
		t.Errorf("%+v", r)
	}
}

func TestBenchHelp(t *testing.T) {
	r := llamero(t, nil, "bench", "--help")
	for _, name := range bench.Names() {
		if !strings.Contains(r.stdout, bench.About(name)) {
			t.Errorf("bench --help lacks workload %s", name)
		}
	}
	for _, want := range append([]string{"--target ", "--peer ", "--raw", "--sweep", benchKeyEnv, configs.EnvPrefix + "SLOTS"}, bench.SweepNames()...) {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("bench --help lacks %s", want)
		}
	}
	if r.code != 0 || strings.Contains(r.stdout, "raw-run") {
		t.Errorf("%+v", r)
	}
}
