//go:build unix

package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/engine/llama"
)

// soon is more than anything here takes that is not waited for on purpose.
const soon = 20 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// tokens are n of a text of which a fake's vocabulary has only harmless ones.
func tokens(n int) []engine.Token {
	out := make([]engine.Token, n)
	for i := range out {
		out[i] = engine.Token(i * 7 % 900)
	}
	return out
}

// prompt is a plan that reads a text into slot 0 and draws a token.
func prompt(text []engine.Token) engine.Plan {
	return engine.Plan{Step: 1,
		Edits:  []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditOpen, Len: int32(len(text))}},
		Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{Tokens: text, Sample: true}}}},
	}
}

// drawn runs a plan of one pass and returns what its last row drew.
func drawn(s engine.Engine, p engine.Plan) (got engine.Token, err error) {
	err = s.Step(context.Background(), p, func(o engine.Output) { got = o.Rows[len(o.Rows)-1].Sampled[0].Token })
	return got, err
}

// works says that a supervisor, which has just started or recovered, answers rightly.
func works(t *testing.T, s *Supervisor) {
	t.Helper()
	want := enginetest.NewFake(s.Limits()).Reference(tokens(20), engine.Sampling{}, 1)[0]
	if got, err := drawn(s, prompt(tokens(20))); err != nil || got != want {
		t.Errorf("token %d, want %d (%v)", got, want, err)
	}
}

// lost says that an error is that of a lost engine.
func lost(t *testing.T, err error, begun, edited bool, reason string) {
	t.Helper()
	var l *engine.LostError
	if !errors.Is(err, engine.ErrLost) || !errors.As(err, &l) {
		t.Fatalf("%v, want %v", err, engine.ErrLost)
	}
	if l.Begun != begun || l.Edited != edited || !strings.Contains(l.Reason, reason) {
		t.Errorf("%+v; want begun %v, edited %v, because of %q", l, begun, edited, reason)
	}
}

// recovers says that a lost engine comes back, and that until then steps fail.
func recovers(t *testing.T, s *Supervisor) {
	t.Helper()
	_, err := drawn(s, prompt(tokens(20)))
	lost(t, err, false, false, "")
	if err := s.Recover(within(t, soon)); err != nil {
		t.Fatal(err)
	}
	if !s.Ready() {
		t.Error("recovered and not ready")
	}
	works(t, s)
}

func signalTo(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestDeathBetweenSteps(t *testing.T) {
	s := running(t, fakeModel{}, nil)
	works(t, s)
	for range 3 {
		child := s.bound
		signalTo(t, child.pid(), syscall.SIGKILL)
		<-child.gone
		if why := child.reason(); why != "signal: killed" {
			t.Errorf("reason %q", why)
		}
		recovers(t, s)
	}
}

func TestDeathInStep(t *testing.T) {
	s := running(t, fakeModel{}, nil)
	_, err := drawn(s, prompt(append(tokens(5), killToken)))
	lost(t, err, true, true, "GGML_ASSERT(token) failed")
	recovers(t, s)
	// The passes before it have happened.
	p := prompt(tokens(5))
	p.Passes = append(p.Passes, engine.Pass{Rows: []engine.Row{{Pos: 5, Tokens: []engine.Token{killToken}}}})
	outputs := 0
	err = s.Step(context.Background(), p, func(engine.Output) { outputs++ })
	lost(t, err, true, true, "GGML_ASSERT")
	if outputs > 1 {
		t.Errorf("%d outputs", outputs)
	}
	recovers(t, s)
}

func TestHang(t *testing.T) {
	s := running(t, fakeModel{}, func(o *Options) { o.hung = 500 * time.Millisecond })
	_, err := drawn(s, prompt([]engine.Token{1, hangToken}))
	lost(t, err, true, true, "far longer")
	recovers(t, s)
}

func TestPatience(t *testing.T) {
	c := &engineChild{}
	for _, tt := range []struct {
		steps    int64
		expected time.Duration
		want     time.Duration
	}{
		{0, 0, blindPatience},
		{0, time.Millisecond, newPatience},
		{newSteps, time.Millisecond, leastPatience},
		{newSteps, 2 * time.Second, 40 * time.Second},
		{newSteps, 1 << 62, time.Hour},
		{newSteps, -1, blindPatience},
	} {
		c.steps.Store(tt.steps)
		if got := c.patience(&engine.Plan{Expected: int64(tt.expected)}); got != tt.want {
			t.Errorf("after %d steps, %v expected: %v, want %v", tt.steps, tt.expected, got, tt.want)
		}
	}
}

// A process that is stopped is noticed within 5 s, whether it does something or not.
func TestStopped(t *testing.T) {
	t.Parallel()
	for _, idle := range []bool{true, false} {
		s := running(t, fakeModel{Pass: 50 * time.Millisecond}, nil)
		child := s.bound
		start := time.Now()
		if idle {
			signalTo(t, child.pid(), syscall.SIGSTOP)
			<-child.gone
		} else {
			p := prompt(tokens(5))
			for i := range 100 {
				p.Passes = append(p.Passes, engine.Pass{Rows: []engine.Row{{Pos: int32(5 + i), Tokens: []engine.Token{1}}}})
			}
			err := s.Step(context.Background(), p, func(o engine.Output) {
				if o.Pass == 0 {
					signalTo(t, child.pid(), syscall.SIGSTOP)
				}
			})
			lost(t, err, true, true, "no sign of life")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("idle %v: noticed after %v", idle, took)
		}
		recovers(t, s)
	}
}

// What a child says that is not an answer to the plan ends it.
func TestWrongOutput(t *testing.T) {
	s := running(t, fakeModel{}, nil)
	outputs := 0
	err := s.Step(context.Background(), prompt([]engine.Token{1, badToken}), func(engine.Output) { outputs++ })
	lost(t, err, true, true, "broke the protocol")
	if outputs > 0 {
		t.Error("the output was passed on")
	}
	recovers(t, s)
}

func TestCheckOutput(t *testing.T) {
	c := &engineChild{}
	c.ready.Limits.Vocab = 100
	sampled := func(tokens ...engine.Token) (out []engine.Sampled) {
		for _, x := range tokens {
			out = append(out, engine.Sampled{Token: x})
		}
		return out
	}
	plan := engine.Plan{Step: 7, Passes: []engine.Pass{{Rows: []engine.Row{
		{Slot: 3, Tokens: tokens(4), Sample: true, Score: true}, {Slot: 4, Tokens: tokens(1), Idle: true},
		{Slot: 5, Tokens: tokens(1), Sample: true, Guess: []engine.Token{5, 6}},
	}}}}
	good := func() engine.Output {
		return engine.Output{Step: 7, Rows: []engine.RowOutput{{Slot: 3, Sampled: sampled(99), Scores: sampled(1, 2, 3)}, {Slot: 4}, {Slot: 5, Sampled: sampled(5, 7)}}}
	}
	if o := good(); c.checkOutput(&plan, 0, &o) != nil {
		t.Fatal(c.checkOutput(&plan, 0, &o))
	}
	for name, spoil := range map[string]func(*engine.Output){
		"another step":           func(o *engine.Output) { o.Step++ },
		"another pass":           func(o *engine.Output) { o.Pass = 1 },
		"no pass":                func(o *engine.Output) { o.Pass = -1 },
		"a row less":             func(o *engine.Output) { o.Rows = o.Rows[:1] },
		"another slot":           func(o *engine.Output) { o.Rows[0].Slot = 5 },
		"two tokens":             func(o *engine.Output) { o.Rows[0].Sampled = sampled(1, 2) },
		"a token nobody asked":   func(o *engine.Output) { o.Rows[1].Sampled = sampled(1) },
		"too many scores":        func(o *engine.Output) { o.Rows[0].Scores = sampled(1, 2, 3, 4, 5) },
		"beyond the vocabulary":  func(o *engine.Output) { o.Rows[0].Sampled = sampled(100) },
		"before the vocabulary":  func(o *engine.Output) { o.Rows[0].Scores = sampled(-1) },
		"an unknown alternative": func(o *engine.Output) { o.Rows[0].Sampled[0].Top = []engine.TopProb{{Token: 100}} },
		"behind a wrong guess":   func(o *engine.Output) { o.Rows[2].Sampled = sampled(6, 8) },
		"more than were guessed": func(o *engine.Output) { o.Rows[2].Sampled = sampled(5, 6, 7, 8) },
	} {
		o := good()
		spoil(&o)
		if c.checkOutput(&plan, 0, &o) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A child that dies in the middle of a page has spoilt none, and those that were whole
// are there for the next one.
func TestDeathInSave(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Split)
	s := running(t, fakeModel{Limits: l, KillSaves: 4}, nil)
	slab := s.bound.slab
	text := tokens(4 * l.PageTokens)
	save := func(pages ...int32) engine.Plan {
		p := prompt(text)
		return engine.Plan{Step: 2, Edits: append(p.Edits, engine.Edit{Kind: engine.EditSave, Pages: pages})}
	}
	read := prompt(text)
	if _, err := drawn(s, read); err != nil {
		t.Fatal(err)
	}
	err := s.Step(context.Background(), engine.Plan{Step: 2, Edits: save(3, 1).Edits[2:]}, func(engine.Output) {})
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(slab)
	if !bytes.ContainsFunc(before, func(r rune) bool { return r != 0 }) {
		t.Fatal("nothing was saved")
	}
	// The fourth page: the second of these.
	err = s.Step(context.Background(), engine.Plan{Step: 3, Edits: []engine.Edit{{Kind: engine.EditSave, Pages: []int32{1, 3, 5}}}}, func(engine.Output) {})
	lost(t, err, true, false, "killed")
	if !bytes.Equal(slab, before) {
		t.Error("a page has changed")
	}
	recovers(t, s)
	two := text[:2*l.PageTokens]
	p := engine.Plan{Step: 4,
		Edits:  []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditOpen, Len: int32(len(text))}, {Kind: engine.EditRestore, Tokens: two, Pages: []int32{3, 1}}},
		Passes: []engine.Pass{{Rows: []engine.Row{{Pos: int32(len(two)), Tokens: text[len(two):], Sample: true}}}},
	}
	want := enginetest.NewFake(l).Reference(text, engine.Sampling{}, 1)[0]
	if got, err := drawn(s, p); err != nil || got != want {
		t.Errorf("token %d, want %d (%v)", got, want, err)
	}
}

// Pages that were not asked for, that do not come, or whose checksum is wrong are not
// taken.
func TestLand(t *testing.T) {
	l := newLayout(1<<12, 1<<12, 64)
	for name, tt := range map[string]struct {
		pages []savedPage
		want  string
	}{
		"another page":    {[]savedPage{{page: 4}}, "was not to come"},
		"a place too far": {[]savedPage{{page: 3, slot: l.slots}}, "was not to come"},
		"a wrong sum":     {[]savedPage{{page: 3, sum: 1}}, "checksum"},
		"a page missing":  {nil, "not saved"},
	} {
		c := &engineChild{layout: l, slab: make([]byte, 1<<12), ring: make([]byte, 1<<12), unsaved: []int32{3}}
		if err := c.land(&saved{pages: tt.pages, last: true}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	_, err := start(t, fakeModel{Open: "fail"}, nil)
	if !errors.Is(err, llama.ErrLibrary) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("%v", err)
	}
	if _, err := start(t, fakeModel{Open: "die"}, nil); err == nil || !strings.Contains(err.Error(), "GGML_ASSERT(whole) failed") {
		t.Errorf("%v", err)
	}
	if _, err := start(t, fakeModel{}, func(o *Options) { o.Argv = []string{filepath.Join(t.TempDir(), "nothing")} }); err == nil {
		t.Error("a program that is not there")
	}
	if _, err := start(t, fakeModel{}, func(o *Options) { o.Argv = []string{"/bin/false"} }); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("a program that is none of ours: %v", err)
	}
}

func TestAnotherBuild(t *testing.T) {
	for name, spoil := range map[string]func(*hello){
		"build":    func(h *hello) { h.Build += "x" },
		"protocol": func(h *hello) { h.Protocol++ },
		"role":     func(h *hello) { h.Role = "cook" },
		"size":     func(h *hello) { h.Slab = -1 },
	} {
		h := hello{Protocol: protocol, Build: build(), Role: roleEngine}
		spoil(&h)
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if err := newFrameWriter(&wire).put(kindHello, b...); err != nil {
			t.Fatal(err)
		}
		if _, err := readHello(newFrameReader(&wire)); err == nil {
			t.Errorf("another %s is taken", name)
		}
	}
}

// A model that is another one after a restart is not gone on with.
func TestReplacedModel(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "model")
	write := func(text string) {
		if err := os.WriteFile(marker, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	s := running(t, fakeModel{Limits: enginetest.DefaultLimits(engine.Split), Marker: marker}, nil)
	works(t, s)
	write("another")
	signalTo(t, s.bound.pid(), syscall.SIGKILL)
	<-s.bound.gone
	if err := s.Recover(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) || s.Ready() {
		t.Errorf("recover: %v, ready %v", err, s.Ready())
	}
	write("one")
	recovers(t, s)
	if s.Info().Name != "one" {
		t.Errorf("it is %q", s.Info().Name)
	}
}

func TestCancelMidway(t *testing.T) {
	s := running(t, fakeModel{Pass: 20 * time.Millisecond}, nil)
	p := prompt(tokens(5))
	for i := range 100 {
		p.Passes = append(p.Passes, engine.Pass{Rows: []engine.Row{{Pos: int32(5 + i), Tokens: []engine.Token{1}}}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	outputs := 0
	err := s.Step(ctx, p, func(engine.Output) { outputs++; cancel() })
	if !errors.Is(err, context.Canceled) || outputs > 50 {
		t.Errorf("%d outputs, %v", outputs, err)
	}
	works(t, s)
}

func TestClose(t *testing.T) {
	s := running(t, fakeModel{}, nil)
	child := s.bound
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.exited:
	default:
		t.Error("closed, and the process runs")
	}
	if state := child.cmd.ProcessState; !state.Success() {
		t.Errorf("it ended with %v", state)
	}
	if _, err := drawn(s, prompt(tokens(5))); err == nil || s.Recover(within(t, soon)) == nil || s.Close() != nil {
		t.Error("a closed supervisor goes on")
	}
}

// BenchmarkStep is what a step costs besides the engine.
func BenchmarkStep(b *testing.B) {
	s := running(b, fakeModel{}, nil)
	p := prompt(tokens(5))
	if _, err := drawn(s, p); err != nil {
		b.Fatal(err)
	}
	idle := engine.Plan{Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: []engine.Row{{Pos: 5, Tokens: []engine.Token{1}, Idle: true}}}}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Step(context.Background(), idle, func(engine.Output) {}); err != nil {
			b.Fatal(err)
		}
	}
}
