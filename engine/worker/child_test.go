//go:build unix

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/engine/llama"
	"llamero/models"
	"llamero/tokenizer"
)

// The children of these tests are this same binary with a variable set.
const (
	childVar  = "WORKER_TEST_CHILD"
	childFake = "fake"
	childReal = "real"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childVar) {
	case childFake:
		fmt.Fprintln(os.Stderr, Main(Backend{Engine: openFake, Tokenizer: openLetters}))
		os.Exit(1)
	case childReal:
		fmt.Fprintln(os.Stderr, Main(Llama()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// children is how a test starts its children.
func children(t testing.TB, kind string) Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Process{Argv: []string{exe}, Env: []string{childVar + "=" + kind}, Log: slog.New(slog.DiscardHandler)}
}

// Tokens on which a fake engine does not go on.
const (
	killToken = 901 + iota // the process dies
	hangToken              // the step never ends
	badToken               // the output is not what was asked for
)

// fakeModel is what a fake engine is told, in place of a model's file.
type fakeModel struct {
	Limits    engine.Limits
	Open      string // "fail", "die": what becomes of loading
	Pass      time.Duration
	KillSaves int  // the process dies in the middle of the n-th page it saves
	Probe     bool // Info says what the process may do
	Marker    string
}

// fake is the fake engine with faults.
type fake struct {
	*enginetest.Fake
	model fakeModel
	info  llama.Info
	saves int
}

func openFake(o llama.Options) (Engine, error) {
	e := &fake{}
	if err := json.Unmarshal([]byte(o.Model), &e.model); err != nil {
		return nil, err
	}
	switch e.model.Open {
	case "fail":
		return nil, fmt.Errorf("%w: no such thing", llama.ErrLibrary)
	case "die":
		fmt.Fprintln(os.Stderr, "GGML_ASSERT(whole) failed")
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	}
	if m := e.model.Marker; m != "" { // the model's file, which a test replaces
		b, err := os.ReadFile(m)
		if err != nil {
			return nil, err
		}
		e.info.Name = string(b)
	}
	l := e.model.Limits
	l.Pages = len(o.Slab) / (8 + 4*l.PageTokens)
	e.Fake = enginetest.NewFake(l)
	e.Memory = o.Slab
	if e.model.Probe {
		e.info.Description = probe()
	}
	return e, nil
}

// probe lists what the process can do that it should not.
func probe() string {
	var can []string
	if c, err := net.Dial("udp", "127.0.0.1:9"); err == nil {
		c.Close()
		can = append(can, "network")
	}
	if exec.Command("/bin/true").Run() == nil {
		can = append(can, "exec")
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil && !strings.Contains(string(status), "NoNewPrivs:\t1") {
		can = append(can, "privileges")
	}
	if os.Getenv("LLAMERO_API_KEYS") != "" {
		can = append(can, "keys")
	}
	if pgid, err := syscall.Getpgid(0); err != nil || pgid != os.Getpid() {
		can = append(can, "group")
	}
	return strings.Join(can, " ")
}

func (e *fake) Info() llama.Info { return e.info }
func (e *fake) Form() string     { return "fake" }
func (e *fake) Unpaged() error   { return nil }

func (e *fake) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	for i := range p.Edits {
		x := &p.Edits[i]
		if x.Kind != engine.EditSave || e.model.KillSaves == 0 {
			continue
		}
		for _, page := range x.Pages {
			if e.saves++; page >= 0 && e.saves == e.model.KillSaves {
				l := e.Limits()
				half := l.Page(e.Memory, page)[:l.PageBytes/2]
				for j := range half {
					half[j] = 0xee
				}
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	bad := false
	for i := range p.Passes {
		for _, r := range p.Passes[i].Rows {
			switch {
			case slices.Contains(r.Tokens, killToken):
				fmt.Fprintln(os.Stderr, "ggml.c:1: GGML_ASSERT(token) failed")
				_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
				select {}
			case slices.Contains(r.Tokens, hangToken):
				select {}
			case slices.Contains(r.Tokens, badToken):
				bad = true
			}
		}
	}
	return e.Fake.Step(ctx, p, func(o engine.Output) {
		if e.model.Pass > 0 {
			time.Sleep(e.model.Pass)
		}
		if bad {
			o.Pass++
		}
		emit(o)
	})
}

// letters is a tokenizer whose tokens are bytes. A text with "kill" in it ends the
// process, one with "hang" never comes back, one with "slow" takes a while.
type letters struct{ vocab *tokenizer.Vocab }

func openLetters(_, model string) (Tokenizer, error) {
	if model == "fail" {
		return nil, errors.New("model: fail is not a GGUF file")
	}
	pieces := make([]string, 256, 257)
	for i := range pieces {
		pieces[i] = string([]byte{byte(i)})
	}
	if model != "" { // the model's file, which a test replaces
		b, err := os.ReadFile(model)
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, string(b))
	}
	return letters{tokenizer.NewVocab(pieces, make([]tokenizer.Attr, len(pieces)), 1, 2)}, nil
}

func (l letters) Vocab() *tokenizer.Vocab { return l.vocab }
func (l letters) Info() llama.Info        { return llama.Info{Name: "letters", ChatTemplate: "{{ x }}"} }
func (l letters) Close() error            { return nil }

func (l letters) Encode(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	switch {
	case strings.Contains(text, "kill"):
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case strings.Contains(text, "hang"):
		select {}
	case strings.Contains(text, "slow"):
		time.Sleep(100 * time.Millisecond)
	case strings.Contains(text, "refuse"):
		return nil, errors.New("refused")
	}
	var out []tokenizer.Token
	if opt.AddSpecial {
		out = append(out, l.vocab.BOS())
	}
	for i := range len(text) {
		out = append(out, tokenizer.Token(text[i]))
	}
	if opt.ParseSpecial {
		out = append(out, l.vocab.EOS())
	}
	return out, nil
}

// start starts a fake engine in a child.
func start(t testing.TB, m fakeModel, change func(*Options)) (*Supervisor, error) {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Process: children(t, childFake), Engine: llama.Options{Model: string(text), Threads: 1}}
	if m.Limits.Pages > 0 {
		if o.Slab, err = NewSlab(int64(m.Limits.Pages * (8 + 4*m.Limits.PageTokens))); err != nil {
			t.Fatal(err)
		}
		o.Ring = 8 << 10
	}
	if change != nil {
		change(&o)
	}
	s, err := Start(o)
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// running is a fake engine that must start.
func running(t testing.TB, m fakeModel, change func(*Options)) *Supervisor {
	t.Helper()
	if m.Limits == (engine.Limits{}) {
		m.Limits = enginetest.DefaultLimits(engine.Split)
	}
	s, err := start(t, m, change)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files are the library and the model that tests of the real engine run on; without
// them a test is skipped, but never in CI.
func files(t testing.TB) (lib, model string) {
	t.Helper()
	lib, err := models.ResolveLibs(os.Getenv("LLAMERO_LIB"), "cpu")
	if err == nil {
		model, err = models.Resolve(os.Getenv("LLAMERO_MODEL"))
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return lib, model
}
