package llama

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// A process loads one library, so tests of another one run in a child: this same
// test binary with these variables set.
const (
	childLib   = "LLAMERO_TEST_CHILD_LIB"
	childModel = "LLAMERO_TEST_CHILD_MODEL"
)

// child runs one test of this binary in a process of its own.
func child(t *testing.T, test string, env ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestLibraryErrors: what is wrong with a library is said before it is used.
func TestLibraryErrors(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		missing(t, err)
	}
	build := func(t *testing.T, source string) string {
		dir := t.TempDir()
		src := filepath.Join(dir, "fake.c")
		if err := os.WriteFile(src, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"libllama.so", "libggml.so", "libggml-base.so"} {
			if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", filepath.Join(dir, name), src).CombinedOutput(); err != nil {
				t.Fatalf("cc: %v: %s", err, out)
			}
		}
		return dir
	}
	notALibrary := t.TempDir()
	for _, name := range []string{"libllama.so", "libggml.so", "libggml-base.so"} {
		if err := os.WriteFile(filepath.Join(notALibrary, name), []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ dir, want string }{
		"missing":       {t.TempDir(), "is missing; `llamero libs fetch`"},
		"not a library": {notALibrary, "does not load"},
		"older":         {build(t, "int nothing;"), "older than v" + Version},
		"another":       {build(t, `const char *llama_version(void) { return "0.6.1"; }`), `version "0.6.1"`},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := child(t, "TestLibraryChild", childLib+"="+c.dir)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !strings.Contains(out, c.want) {
				t.Errorf("want %q in:\n%s", c.want, out)
			}
		})
	}
}

// TestLibraryChild is the child of TestLibraryErrors.
func TestLibraryChild(t *testing.T) {
	dir := os.Getenv(childLib)
	if dir == "" {
		t.Skip("runs as a child of TestLibraryErrors")
	}
	err := load(dir)
	if !errors.Is(err, ErrLibrary) {
		t.Fatal(err)
	}
	t.Log(err)
}

// TestModelErrors: a file that is no model is an error, not an abort.
func TestModelErrors(t *testing.T) {
	lib, model := files(t)
	dir := t.TempDir()
	head := make([]byte, 1<<16)
	f, err := os.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(head); err != nil {
		t.Fatal(err)
	}
	f.Close()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, path := range map[string]string{
		"missing":    filepath.Join(dir, "none.gguf"),
		"empty":      write("empty.gguf", nil),
		"not a GGUF": write("text.gguf", []byte("once upon a time")),
		"truncated":  write("cut.gguf", head),
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Open(Options{Lib: lib, Model: path})
			if err == nil {
				e.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name the file", err)
			}
			if _, err := OpenTokenizer(lib, path); err == nil {
				t.Error("the tokenizer opened")
			}
		})
	}
}

func TestOptionErrors(t *testing.T) {
	lib, model := files(t)
	for name, o := range map[string]Options{
		"too many slots":  {Slots: maxSlots + 1},
		"negative":        {Slots: -1},
		"unknown type":    {TypeK: "q9"},
		"beyond training": {Slots: 1, SlotTokens: 1 << 20},
	} {
		o.Lib, o.Model = lib, model
		if e, err := Open(o); err == nil {
			e.Close()
			t.Errorf("%s: opened", name)
		}
	}
}

// TestLayouts: auto is split while it fits the KV budget.
func TestLayouts(t *testing.T) {
	lib, model := files(t)
	for name, c := range map[string]struct {
		o    Options
		want engine.Limits
	}{
		"fits":     {Options{Slots: 2, SlotTokens: 512, KVBudget: 64 << 20}, engine.Limits{Layout: engine.Split, Slots: 2, Scratch: 2, SlotTokens: 512, PoolTokens: 1024}},
		"does not": {Options{Slots: 8, SlotTokens: 2048, KVBudget: 64 << 20}, engine.Limits{Layout: engine.Unified, Slots: 8, Scratch: 1, SlotTokens: 2048, PoolTokens: 2816}},
		"asked":    {Options{Slots: 3, SlotTokens: 300, Layout: engine.Unified}, engine.Limits{Layout: engine.Unified, Slots: 3, Scratch: 1, SlotTokens: 300, PoolTokens: 768}},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Lib, c.o.Model, c.o.Threads = lib, model, 1
			e, err := Open(c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			got := e.Limits()
			if got.Layout != c.want.Layout || got.Slots != c.want.Slots || got.Scratch != c.want.Scratch ||
				got.SlotTokens != c.want.SlotTokens || got.PoolTokens != c.want.PoolTokens {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestAccelerator runs the model through a GPU backend: Vulkan on whatever device
// there is, which without a GPU is Mesa's software device. All layers must have
// gone there. Slow: a few tokens only.
func TestAccelerator(t *testing.T) {
	_, model := files(t)
	lib, err := vulkanLibs()
	if err != nil {
		missing(t, err)
	}
	out, err := child(t, "TestAcceleratorChild", childLib+"="+lib, childModel+"="+model, "GGML_VK_VISIBLE_DEVICES=0")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(out, "SKIP") {
		missing(t, errors.New(out))
	}
	t.Log(out)
}

// TestAcceleratorChild is the child of TestAccelerator.
func TestAcceleratorChild(t *testing.T) {
	lib, model := os.Getenv(childLib), os.Getenv(childModel)
	if model == "" {
		t.Skip("runs as a child of TestAccelerator")
	}
	e, err := Open(Options{Lib: lib, Model: model, GPULayers: -1, Slots: 2, SlotTokens: 256, Layout: engine.Split})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	device := ""
	for i := range llama.GGMLBackendDeviceCount() {
		d := llama.GGMLBackendDeviceGet(i)
		if kind := llama.GGMLBackendDevType(d); kind != llama.GGMLBackendDeviceTypeCPU {
			device = llama.GGMLBackendDeviceDescription(d)
		}
	}
	if device == "" {
		t.Fatal("no accelerator was found: is a Vulkan driver (mesa-vulkan-drivers) there?")
	}
	t.Logf("device: %s; %s", device, e.Info().Offload)
	if !strings.HasPrefix(e.Info().Offload, "31/31") {
		t.Errorf("offloaded %q", e.Info().Offload)
	}
	prompt := []engine.Token{504, 3575, 282, 4649, 314}
	s := driver{t: t, e: e}
	// Alone, then moved to the other slot half-way: state out of and into device memory.
	s.open(0, len(prompt))
	want := s.generate(0, prompt, 6)
	s.edit(engine.Edit{Kind: engine.EditDrop, Slot: 0})
	s.open(0, len(prompt))
	got := s.generate(0, prompt, 3)
	s.edit(engine.Edit{Kind: engine.EditMove, Slot: 0, To: 1})
	got = append(got, s.generate(1, got[2:], 3)...)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("token %d is %d after a move, %d without", i, got[i], want[i])
		}
	}
}

// driver runs single passes on an engine.
type driver struct {
	t testing.TB
	e *Engine
}

func (d driver) step(p engine.Plan) (out engine.Output) {
	d.t.Helper()
	if err := d.e.Step(d.t.Context(), p, func(o engine.Output) { out = o }); err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d driver) edit(x engine.Edit) { d.t.Helper(); d.step(engine.Plan{Edits: []engine.Edit{x}}) }

func (d driver) open(slot, prompt int) {
	d.t.Helper()
	d.edit(engine.Edit{Kind: engine.EditOpen, Slot: int32(slot), Len: int32(prompt)})
}

// generate feeds tokens and draws n more, feeding each but the last.
func (d driver) generate(slot int, tokens []engine.Token, n int) []engine.Token {
	d.t.Helper()
	var out []engine.Token
	for range n {
		pos := len(d.e.ledger.Slot(int32(slot)).Tokens)
		o := d.step(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassPrefill, Rows: []engine.Row{{
			Slot: int32(slot), Pos: int32(pos), Tokens: tokens, Sample: true}}}}})
		t := o.Rows[0].Sampled[0].Token
		out = append(out, t)
		tokens = []engine.Token{t}
	}
	return out
}
