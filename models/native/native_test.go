package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"llamero/engine"
	"llamero/models"
)

// With this variable set the test binary is the child; "crash" is one that ends as
// llama.cpp does where an assertion fails.
const asChild = "TEST_AS_NATIVE"

func TestMain(m *testing.M) {
	switch os.Getenv(asChild) {
	case "":
		os.Exit(m.Run())
	case "crash":
		fmt.Fprintln(os.Stderr, "ggml.c:42: GGML_ASSERT(x) failed")
		os.Exit(134)
	}
	if err := Main(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// worker works with the libraries and the model that tests run on, or skips.
func worker(t *testing.T) (w Worker, model string) {
	t.Helper()
	lib, err := models.ResolveLibs(os.Getenv("LLAMERO_LIB"), "cpu")
	if err == nil {
		model, err = models.Resolve(os.Getenv("LLAMERO_MODEL"))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Setenv(asChild, "1")
	return Worker{Argv: []string{os.Args[0]}, Lib: lib, Threads: 1}, model
}

func TestQuantize(t *testing.T) {
	w, model := worker(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	calls := 0
	if err := w.Quantize(t.Context(), model, out, "q8_0", false, func(int, int) { calls++ }); err != nil {
		t.Fatal(err)
	}
	if err := models.CheckGGUF(out); err != nil || calls < 100 {
		t.Errorf("%d tensors were counted; %v", calls, err)
	}
	first, err := models.Digest(out)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Quantize(t.Context(), model, out, "q8_0", false, nil)
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("it is there: %v", err)
	}
	// The same again is the same file, byte for byte.
	if err := w.Quantize(t.Context(), model, out, "q8_0", true, nil); err != nil {
		t.Fatal(err)
	}
	if again, err := models.Digest(out); err != nil || again != first {
		t.Errorf("digest %s, then %s, %v", first, again, err)
	}
	// One that is interrupted leaves nothing.
	ctx, cancel := context.WithCancel(t.Context())
	other := filepath.Join(dir, "other.gguf")
	if err := w.Quantize(ctx, model, other, "q4_0", false, func(int, int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	checkFolder(t, dir, "out.gguf", "out.gguf.digest")

	c, err := w.Compare(t.Context(), model, out, strings.Repeat("The ferry leaves at ten past seven, and whoever comes later has to walk around the lake. ", 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Scored == 0 || c.Scored%scored != 0 || c.SourceLoss <= 0 || math.Abs(c.Loss-c.SourceLoss) > 0.1 || c.KL < 0 || c.KL > 0.05 || c.SameTop < 0.9 {
		t.Errorf("a file of 8 bits beside its source: %+v", c)
	}
	self, err := w.Compare(t.Context(), model, model, strings.Repeat("Nobody had told the gardener that the wall was to be moved by a yard. ", 42), nil)
	if err != nil {
		t.Fatal(err)
	}
	if self.Loss != self.SourceLoss || self.KL != 0 || self.SameTop < 1-1e-9 {
		t.Errorf("a model beside itself: %+v", self)
	}
	if _, err := w.Compare(t.Context(), model, out, "short", nil); err == nil || !strings.Contains(err.Error(), "512 are needed") {
		t.Errorf("a short text: %v", err)
	}

	s, err := w.Speed(t.Context(), out, 1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Prefill <= 0 || s.Decode <= 0 || s.Batch <= s.Decode/4 {
		t.Errorf("speed %+v", s)
	}
}

func checkFolder(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("the folder holds %v, want %v", names, want)
	}
}

// small is a file that passes for a GGUF, with nothing in it that llama.cpp loads.
var small = "GGUF\x03\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00w" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
	strings.Repeat("\x00", 64)

func TestQuantizeErrors(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	in, page, there := put("in.gguf", small), put("page.gguf", "<html>"), put("there.gguf", "mine")
	if err := os.Symlink(in, filepath.Join(dir, "link.gguf")); err != nil {
		t.Fatal(err)
	}
	w := Worker{Argv: []string{os.Args[0]}}
	t.Setenv(asChild, "crash")
	for name, c := range map[string]struct {
		in, out string
		replace bool
		want    string
	}{
		"not a GGUF":    {page, "out.gguf", false, "not a GGUF"},
		"no input":      {"none.gguf", "out.gguf", false, "not there"},
		"there":         {in, "there.gguf", false, "is there already: --force"},
		"over itself":   {in, "in.gguf", true, "is the input"},
		"over its link": {in, "link.gguf", true, "is the input"},
		"no folder":     {in, "no/where.gguf", false, "folder"},
		"a folder":      {in, ".", true, "not a file"},
		"the child":     {in, "out.gguf", false, "llama.cpp broke off at " + in + " (exit status 134): ggml.c:42: GGML_ASSERT(x) failed"},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.Quantize(t.Context(), c.in, filepath.Join(dir, c.out), "q8_0", c.replace, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	checkFolder(t, dir, "in.gguf", "link.gguf", "page.gguf", "there.gguf")
	if b, err := os.ReadFile(there); err != nil || string(b) != "mine" {
		t.Errorf("what was there is %q, %v", b, err)
	}
}

func TestExplain(t *testing.T) {
	for in, want := range map[string]string{
		"quantise: basic_ios::clear: iostream error":       "is the disk full?",
		"quantise: this quantization requires an imatrix!": "choose another type",
		"quantise: something else":                         "in.gguf: quantise: something else",
	} {
		if got := explain(errors.New(in), "in.gguf", "out.gguf").Error(); !strings.Contains(got, want) {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

func TestMainErrors(t *testing.T) {
	for in, want := range map[string]string{"": "EOF", "{}": "nothing to do", "[": "what to do"} {
		if err := Main(strings.NewReader(in), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// The figures are those of the formulas, written down as they are in a textbook.
func TestCompareRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n, vocab = 40, 97
	row := func() []float32 {
		r := make([]float32, vocab)
		for i := range r {
			r[i] = float32(rng.NormFloat64() * 6)
		}
		return r
	}
	softmax := func(r []float32) []float64 {
		out, sum := make([]float64, vocab), 0.0
		for i, x := range r {
			out[i] = math.Exp(float64(x))
			sum += out[i]
		}
		for i := range out {
			out[i] /= sum
		}
		return out
	}
	var p, q [][]float32
	var next []engine.Token
	var want []position
	for range n {
		a, b, x := row(), row(), engine.Token(rng.IntN(vocab))
		p, q, next = append(p, a), append(q, b), append(next, x)
		pa, pb := softmax(a), softmax(b)
		w := position{source: -math.Log(pa[x]), loss: -math.Log(pb[x])}
		topA, topB := 0, 0
		for i := range pa {
			w.kl += pa[i] * math.Log(pa[i]/pb[i])
			if pa[i] > pa[topA] {
				topA = i
			}
			if pb[i] > pb[topB] {
				topB = i
			}
		}
		w.same = topA == topB
		want = append(want, w)
	}
	got := compareRows(p, q, next)
	for i, g := range got {
		w := want[i]
		if math.Abs(g.source-w.source) > 1e-9 || math.Abs(g.loss-w.loss) > 1e-9 || math.Abs(g.kl-w.kl) > 1e-9 || g.same != w.same {
			t.Errorf("row %d: %+v, want %+v", i, g, w)
		}
	}
	for _, g := range compareRows(p, p, next) {
		if g.kl != 0 || g.source != g.loss || !g.same {
			t.Errorf("a row beside itself: %+v", g)
		}
	}
	// A token that cannot be is no trouble.
	p[0][3], q[0][3] = float32(math.Inf(-1)), float32(math.Inf(-1))
	if g := compare(p[0], q[0], 5); math.IsNaN(g.kl) || math.IsInf(g.kl, 0) {
		t.Errorf("%+v", g)
	}
}

func TestSummarise(t *testing.T) {
	var all []position
	for i := range 200 {
		all = append(all, position{source: 2, loss: 2.5 + float64(i%2), kl: float64(i), same: i%4 == 0})
	}
	c := summarise(all)
	// The differences are 0.5 and 1.5 in turn: their standard deviation is 0.5.
	if math.Abs(c.Loss-3) > 1e-9 || math.Abs(c.SourceLoss-2) > 1e-9 || math.Abs(c.LossError-0.5/math.Sqrt(199)) > 1e-9 ||
		math.Abs(c.KL-99.5) > 1e-9 || c.KL99 != 198 || math.Abs(c.SameTop-0.25) > 1e-9 || c.Scored != 200 {
		t.Errorf("%+v", c)
	}
}
