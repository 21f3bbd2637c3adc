package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"llamero/bench"
)

// What the engine's process may suffer without a client seeing more than a pause.

// child is a process of a gateway's that has a role, 0 if there is none now.
func child(t *testing.T, g *gateway, role string) int {
	t.Helper()
	if all := children(t, g, role); len(all) > 0 {
		return all[0]
	}
	return 0
}

// children are the processes of a gateway's that have a role now.
func children(t *testing.T, g *gateway, role string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("processes cannot be listed here")
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 || f[0] == "Z" || f[1] != strconv.Itoa(g.cmd.Process.Pid) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if err == nil && bytes.HasSuffix(bytes.TrimRight(line, "\x00"), []byte("engine-worker\x00"+role)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// newChild waits for a role's process that is not an old one.
func newChild(t *testing.T, g *gateway, role string, old int) (pid int) {
	t.Helper()
	if !soon(stopTimeout, func() bool { pid = child(t, g, role); return pid != 0 && pid != old }) {
		t.Fatalf("there is no %s\n%s", role, g.log)
	}
	return pid
}

// signalChild sends a signal to a role's process, and returns which it was.
func signalChild(t *testing.T, g *gateway, role string, sig syscall.Signal) int {
	t.Helper()
	pid := newChild(t, g, role, 0)
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	return pid
}

// crowd is a number of streams that run at once.
type crowd struct {
	key    string // API key; "" is none
	texts  []string
	tokens []int
	finish []string
	errs   []error

	chunks atomic.Int64   // that have come, of all
	counts []atomic.Int64 // the same of each
	latest []atomic.Int64 // when each stream's last chunk came, in unix nanoseconds
	done   sync.WaitGroup
}

// join starts streams of so many tokens each, greedily drawn.
func join(g *gateway, n, tokens int) *crowd { return joinAs(g, "", n, tokens) }

// joinAs does so with an API key.
func joinAs(g *gateway, key string, n, tokens int) *crowd {
	return joinEach(g, key, slices.Repeat([]int{tokens}, n))
}

// joinEach starts a stream for each count of tokens.
func joinEach(g *gateway, key string, tokens []int) *crowd {
	n := len(tokens)
	c := &crowd{key: key, texts: make([]string, n), tokens: make([]int, n), finish: make([]string, n), errs: make([]error, n),
		counts: make([]atomic.Int64, n), latest: make([]atomic.Int64, n)}
	for i := range n {
		c.done.Go(func() {
			c.errs[i] = c.read(g, i, tokens[i])
			c.counts[i].Store(math.MaxInt64) // nothing more is to come
			c.latest[i].Store(math.MaxInt64)
		})
	}
	return c
}

func (c *crowd) read(g *gateway, i, tokens int) error {
	body, err := json.Marshal(map[string]any{
		"model": model, "stream": true, "temperature": 0, "ignore_eos": true, "max_tokens": tokens,
		"prompt":         fmt.Sprintf("Chapter %d. In the year %d a ship left the harbour with %d sailors, and the captain said:", i, 1700+7*i, 3*i+11),
		"stream_options": map[string]bool{"include_usage": true},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	ended := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			ended = true
			continue
		}
		var chunk struct {
			Choices []struct {
				Text   string
				Finish string `json:"finish_reason"`
			}
			Usage *struct {
				Completion int `json:"completion_tokens"`
			}
			Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return err
		}
		if chunk.Error != nil {
			return fmt.Errorf("in the stream: %s", chunk.Error)
		}
		if chunk.Usage != nil {
			c.tokens[i] = chunk.Usage.Completion
		}
		for _, x := range chunk.Choices {
			c.texts[i] += x.Text
			if x.Finish != "" {
				c.finish[i] = x.Finish
			}
		}
		c.latest[i].Store(time.Now().UnixNano())
		c.chunks.Add(1)
		c.counts[i].Add(1)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !ended {
		return fmt.Errorf("the stream was cut off after %q", c.texts[i])
	}
	return nil
}

// reach waits until so many chunks have come.
func (c *crowd) reach(t *testing.T, n int64) {
	t.Helper()
	if !soon(requestTimeout, func() bool { return c.chunks.Load() >= n }) {
		t.Fatalf("%d of %d chunks", c.chunks.Load(), n)
	}
}

// moving waits until every stream has moved since a moment, or ended, and returns how
// long that took.
func (c *crowd) moving(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	if !soon(requestTimeout, func() bool {
		for i := range c.latest {
			if c.latest[i].Load() <= since.UnixNano() {
				return false
			}
		}
		return true
	}) {
		t.Fatal("a stream does not move")
	}
	return time.Since(since)
}

// whole waits for the end and says that every stream has all of its tokens. It returns
// how many texts are those of another run.
func (c *crowd) whole(t *testing.T, tokens int, other *crowd) (same int) {
	t.Helper()
	c.done.Wait()
	for i := range c.texts {
		if c.errs[i] != nil || c.tokens[i] != tokens || c.finish[i] != "length" {
			t.Errorf("stream %d: %d of %d tokens, finish %q, %v", i, c.tokens[i], tokens, c.finish[i], c.errs[i])
		}
		if other != nil && c.texts[i] == other.texts[i] {
			same++
		}
	}
	return same
}

// answer is the tokens of each stream.
const answer = 64

// faulty are a gateway's settings where speed is not what is tested: one thread, since
// threads that wait for one another are slow on a machine that does other things.
var faulty = []string{"--slots", "16", "--context", "512", "--cache-memory", "64MiB", "--threads", "1"}

// crowded is a gateway whose engine suffers, and how many streams run on it. At full
// size it has all threads, and memory for the pages of all streams, which are 150 MB.
func crowded(t *testing.T, env ...string) (*gateway, int) {
	t.Helper()
	if fullSize {
		return own(t, env, "--slots", "64", "--context", "512", "--cache-memory", "256MiB"), 64
	}
	return own(t, env, faulty...), 16
}

// restarts are how long the engine's processes after the first took to load the model
// and to set up its KV cache.
func restarts(t *testing.T, g *gateway) []time.Duration {
	t.Helper()
	var all []time.Duration
	for _, line := range g.log.lines("a child process runs again") {
		if line["process"] != "engine" {
			continue
		}
		took, err := time.ParseDuration(fmt.Sprint(line["took"]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, took)
	}
	return all
}

// resumeGoal is how long after the engine's load all streams move again.
const resumeGoal = 2 * time.Second

// TestEngineKilled: kill -9 of the engine at any moment costs all streams a pause. Each
// round has an API key of its own, so that it finds no pages of the answers before, which
// are the same.
func TestEngineKilled(t *testing.T) {
	rounds := sized(6, 20)
	key := func(round int) string { return fmt.Sprint("sesame", round) }
	keys := "LLAMERO_API_KEYS=calm:barley"
	for round := range rounds {
		keys += fmt.Sprintf(",round%d:%s", round, key(round))
	}
	row := newRow(t, rowKilled, fmt.Sprintf("kill -9 of the engine under %d streams, %d times", sized(16, 64), rounds))
	g, streams := crowded(t, keys)
	calm := joinAs(g, "barley", streams, answer)
	calm.whole(t, answer, nil)
	r := rand.New(rand.NewPCG(6, 1))
	var moved, loads []time.Duration
	same := 0
	for round := range rounds {
		c := joinAs(g, key(round), streams, answer)
		if round > 0 { // the first one at once: in the prompts, if there are some to compute
			c.reach(t, 1+r.Int64N(int64(streams*answer*3/4)))
		}
		old := signalChild(t, g, "engine", syscall.SIGKILL)
		killed := time.Now()
		took := c.moving(t, killed)
		same += c.whole(t, answer, calm)
		newChild(t, g, "engine", old)
		until(t, "the restart is logged", func() bool { return len(restarts(t, g)) > round })
		load := restarts(t, g)[round]
		t.Logf("round %d: all streams moved again after %v, the engine had loaded after %v", round, took.Round(time.Millisecond), load)
		if fullSize && took > load+resumeGoal {
			t.Errorf("round %d: %v, the load and %v are %v", round, took, resumeGoal, load+resumeGoal)
		}
		moved, loads = append(moved, took), append(loads, load)
	}
	m, l := bench.NewLatency(moved), bench.NewLatency(loads)
	row.figure("%d streams, all complete", rounds*streams)
	row.figure("all moving again after %s ms (median), %s ms at most; load and KV took %s and %s ms", inMS(m.P50), inMS(m.Max), inMS(l.P50), inMS(l.Max))
	row.figure("%d of %d answers byte-identical to undisturbed ones", same, rounds*streams)
}

// TestEngineKilledTwice: a second death while the first one is being mended.
func TestEngineKilledTwice(t *testing.T) {
	g := own(t, nil, faulty...)
	c := join(g, 16, answer)
	c.reach(t, 100)
	old := signalChild(t, g, "engine", syscall.SIGKILL)
	for range 2 {
		old = newChild(t, g, "engine", old)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	c.whole(t, answer, nil)
}

// TestEngineStopped: an engine that stands still is noticed within 5 s, and replaced.
func TestEngineStopped(t *testing.T) {
	row := newRow(t, rowStopped, fmt.Sprintf("SIGSTOP of the engine under %d streams", sized(16, 64)))
	g, streams := crowded(t)
	c := join(g, streams, answer)
	c.reach(t, 100)
	old := signalChild(t, g, "engine", syscall.SIGSTOP)
	stopped := time.Now()
	newChild(t, g, "engine", old)
	noticed := time.Since(stopped)
	if noticed > 5*time.Second {
		t.Errorf("noticed after %v", noticed)
	}
	moved := c.moving(t, stopped)
	c.whole(t, answer, nil)
	row.figure("noticed after %s ms, all moving again after %s ms, all complete", inMS(noticed), inMS(moved))
}

// TestPoison: a prompt that kills the engine fails alone. The program is one whose
// engine a token kills.
func TestPoison(t *testing.T) {
	good := sized(7, 31)
	row := newRow(t, rowPoison, fmt.Sprintf("a prompt that kills the engine beside %d good ones", good))
	need(t, shared.missing == "", shared.missing)
	program := filepath.Join(shared.dir, "llamero-faults")
	if out, err := exec.Command("go", "build", "-tags", "faults", "-o", program, "llamero").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	args := []string{"--slots", fmt.Sprint(good + 1), "--context", "512", "--cache-memory", "64MiB"}
	if !fullSize {
		args = append(args, "--threads", "1")
	}
	g, err := startProgram(program, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	_, body := g.post(t, "/detokenize", `{"tokens":[2147483647]}`)
	_, size, _ := strings.Cut(string(body), "the vocabulary has ")
	var vocabulary int
	if _, err := fmt.Sscan(size, &vocabulary); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	c := join(g, good, answer)
	c.reach(t, int64(good))
	poisoned := time.Now()
	status, body := g.post(t, "/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":[1,2,3,%d],"max_tokens":4}`, model, vocabulary-1))
	failed := time.Since(poisoned)
	if status != http.StatusInternalServerError || !strings.Contains(string(body), "tried alone") {
		t.Errorf("the one that kills: %d %s", status, body)
	}
	c.whole(t, answer, nil)
	deaths := len(g.log.lines("a child process is lost; the next one is started"))
	if deaths == 0 {
		t.Error("the engine did not die")
	}
	row.figure("it failed alone after %s ms and %d deaths of the engine, %d complete", inMS(failed), deaths, good)
}

// status asks for a path's status.
func (g *gateway) status(t *testing.T, path string) int {
	t.Helper()
	resp, err := http.Get(g.url + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// until polls readiness.
func (g *gateway) until(t *testing.T, want int) {
	t.Helper()
	if !soon(stopTimeout, func() bool { return g.status(t, "/readyz") == want }) {
		t.Fatalf("/readyz is never %d\n%s", want, g.log)
	}
}

// TestReadyWithoutEngine: readiness tells the truth, with and without requests; the
// gateway lives all the time.
func TestReadyWithoutEngine(t *testing.T) {
	g := own(t, nil, faulty...)
	for _, role := range []string{"engine", "tokenizer"} {
		signalChild(t, g, role, syscall.SIGSTOP) // a pause that cannot be missed
		g.until(t, http.StatusServiceUnavailable)
		if s := g.status(t, "/healthz"); s != http.StatusOK {
			t.Errorf("without its %s the gateway's health is %d", role, s)
		}
		g.until(t, http.StatusOK)
		if status, body := g.post(t, "/v1/completions", `{"model":"`+model+`","prompt":"Hello","max_tokens":2}`); status != http.StatusOK {
			t.Errorf("after its %s was replaced: %d %s", role, status, body)
		}
	}
}

// TestTokenizerKilled: requests whose text was on its way are answered all the same.
func TestTokenizerKilled(t *testing.T) {
	g := own(t, nil, faulty...)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 2000)
	for range 3 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				resp, err := http.Post(g.url+"/tokenize", "application/json", strings.NewReader(`{"content":"`+text+`"}`))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			})
		}
		old := signalChild(t, g, "tokenizer", syscall.SIGKILL)
		wg.Wait()
		newChild(t, g, "tokenizer", old)
	}
}

// TestGatewayKilled: no child outlives its gateway.
func TestGatewayKilled(t *testing.T) {
	g := own(t, nil, faulty...)
	pids := []int{newChild(t, g, "engine", 0), newChild(t, g, "tokenizer", 0)}
	join(g, 2, answer)
	g.kill()
	for _, pid := range pids {
		if !soon(5*time.Second, func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(stat), ") Z ")
		}) {
			t.Errorf("process %d lives on", pid)
		}
	}
}

// TestInProcess: the engine can be had in the gateway's own process.
func TestInProcess(t *testing.T) {
	g := own(t, nil, append(faulty, "--engine", "inprocess")...)
	if pid := child(t, g, "engine"); pid != 0 {
		t.Errorf("there is a child, %d", pid)
	}
	join(g, 2, 8).whole(t, 8, nil)
}
