package tune

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"llamero/engine/llama"
	"llamero/models"
	"llamero/models/native"
)

// header is a GGUF of one tensor, enough to be inspected.
var header = "GGUF\x03\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00w" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	strings.Repeat("\x00", 64)

// fake is a worker with figures by type; it keeps the order of what it is asked.
type fake struct {
	speed map[string]native.Speed
	kl    map[string]float64
	loss  map[string]float64
	calls []string
	fail  string
}

func kind(path string) string { return strings.TrimSuffix(filepath.Base(path), ".gguf") }

func (f *fake) call(what, path string) error {
	name := what + " " + kind(path)
	f.calls = append(f.calls, name)
	if name == f.fail {
		return errors.New(name + " went wrong")
	}
	return nil
}

func (f *fake) Quantize(_ context.Context, _, out string, _ llama.FileType, replace bool, _ func(int, int)) error {
	if err := f.call("make", out); err != nil {
		return err
	}
	if _, err := os.Stat(out); err == nil && !replace {
		return fmt.Errorf("%s %w", out, native.ErrExists)
	}
	return os.WriteFile(out, []byte(header), 0o600)
}

func (f *fake) Compare(_ context.Context, _, model, _ string, _ func(int, int)) (native.Comparison, error) {
	k := kind(model)
	return native.Comparison{Tokens: 3000, Scored: 1280, SourceLoss: 2.5, Loss: 2.5 + f.loss[k], LossError: 0.001, KL: f.kl[k], KL99: 10 * f.kl[k], SameTop: 0.99}, f.call("compare", model)
}

func (f *fake) Speed(_ context.Context, model string, seed uint64) (native.Speed, error) {
	s := f.speed[kind(model)]
	drift := 1 + float64(seed)/100
	return native.Speed{Prefill: s.Prefill * drift, Decode: s.Decode * drift, Batch: s.Batch * drift}, f.call("speed", model)
}

func newFake() *fake {
	return &fake{
		speed: map[string]native.Speed{"source": {Prefill: 400, Decode: 170, Batch: 250}, "q4_0": {Prefill: 1500, Decode: 230, Batch: 400}, "q8_0": {Prefill: 900, Decode: 170, Batch: 300}, "q6_k": {Prefill: 350, Decode: 150, Batch: 200}},
		kl:    map[string]float64{"q4_0": 0.05, "q8_0": 0.0008, "q6_k": 0.002},
		loss:  map[string]float64{"q4_0": 0.03, "q8_0": 0.0002, "q6_k": -0.0001},
	}
}

func options(t *testing.T) Options {
	t.Helper()
	source := filepath.Join(t.TempDir(), "source.gguf")
	if err := os.WriteFile(source, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Model: source, Types: []llama.FileType{"q4_0", "q6_k", "q8_0"}, Dir: t.TempDir(), Rounds: 2, Threads: 2}
}

func TestRun(t *testing.T) {
	f, o := newFake(), options(t)
	r, err := Run(t.Context(), f, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Fastest != "q4_0" || r.Nearest != "q8_0" || r.Default != "q8_0" {
		t.Errorf("fastest %s, nearest %s, default %s", r.Fastest, r.Nearest, r.Default)
	}
	want := "make q4_0, make q6_k, make q8_0, compare q4_0, compare q6_k, compare q8_0, " +
		"speed source, speed q4_0, speed q6_k, speed q8_0, speed q8_0, speed q6_k, speed q4_0, speed source"
	if got := strings.Join(f.calls, ", "); got != want {
		t.Errorf("order\n%s, want\n%s", got, want)
	}
	if o.runs() != len(f.calls) {
		t.Errorf("%d runs were announced, %d made", o.runs(), len(f.calls))
	}
	if p := r.Files[1].Prefill; p.Min != 1500 || p.Max != 1515 || p.Median != 1507.5 {
		t.Errorf("prefill %v", p)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	var out bytes.Buffer
	r.Write(&out)
	for _, want := range []string{"3000 tokens, 1280", "unknown (source)", "+3.05 ± 0.10", "0.00080", "default: q8_0", "at most 1% worse", "1508 (1500…1515)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	files, err := r.Plot(t.TempDir())
	if err != nil || len(files) != 2 {
		t.Errorf("plots: %v, %v", files, err)
	}
}

// Where nothing that is faster is near enough, the source stays the default.
func TestRunKeepsTheSource(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"too far":       func(f *fake) { f.kl["q8_0"] = 0.011 },
		"too perplexed": func(f *fake) { f.loss["q8_0"] = 0.0101 },
		"slower":        func(f *fake) { f.speed["q8_0"] = native.Speed{Prefill: 500, Decode: 100, Batch: 200} },
		"nothing passes": func(f *fake) {
			clear(f.speed)
			clear(f.kl)
			f.speed["source"] = native.Speed{Prefill: 2, Decode: 2, Batch: 2}
		},
	} {
		f := newFake()
		change(f)
		r, err := Run(t.Context(), f, options(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Default != r.Files[0].Type || !r.Files[0].Source {
			t.Errorf("%s: default %s", name, r.Default)
		}
	}
}

// Files that are kept are used again.
func TestRunKeeps(t *testing.T) {
	o := options(t)
	o.Keep = true
	for range 2 {
		if _, err := Run(t.Context(), newFake(), o, nil); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 3 {
			t.Errorf("kept: %v, %v", left, err)
		}
	}
}

func TestRunErrors(t *testing.T) {
	for _, step := range []string{"make q6_k", "compare q8_0", "speed source"} {
		f, o := newFake(), options(t)
		f.fail = step
		if _, err := Run(t.Context(), f, o, nil); err == nil || !strings.Contains(err.Error(), step+" went wrong") {
			t.Errorf("%s: %v", step, err)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", step, left)
		}
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"rounds":   {func(o *Options) { o.Rounds = 0 }, "--rounds"},
		"no types": {func(o *Options) { o.Types = nil }, "--types"},
		"twice":    {func(o *Options) { o.Types = append(o.Types, "q4_0") }, "q4_0 is named twice"},
		"no file":  {func(o *Options) { o.Model += "x" }, "not there"},
	} {
		o := options(t)
		c.change(&o)
		if _, err := Run(t.Context(), newFake(), o, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The text is long enough to be scored, and plain.
func TestText(t *testing.T) {
	if len(text) < 12_000 || len(text) > 64_000 || strings.ContainsRune(text, 0) {
		t.Errorf("%d bytes", len(text))
	}
}

// What the lock says of the tuned default model is within the bounds.
func TestLockIsWithinBounds(t *testing.T) {
	if models.TunedType() == "" {
		t.Skip("the default model is served as it was fetched")
	}
	path := filepath.Join("anywhere", models.TunedName())
	about, ok := models.Tuned(path)
	if !ok {
		t.Fatalf("%s is not the tuned file", path)
	}
	if !FreeOfLoss.Within(Quality{Change: about.Perplexity, KL: about.KL}) || about.Prefill <= 1 {
		t.Errorf("%+v is not within %+v", about, FreeOfLoss)
	}
	if _, err := llama.ParseFileType(models.TunedType()); err != nil {
		t.Error(err)
	}
}
