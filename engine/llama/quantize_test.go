package llama

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/models"
	"llamero/tokenizer"
)

func TestParseFileType(t *testing.T) {
	for in, want := range map[string]FileType{"q4_0": "q4_0", "Q4_K_M": "q4_k_m", " F16 ": "f16"} {
		if got, err := ParseFileType(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "q4", "q4_0x", "iq1_s"} {
		if _, err := ParseFileType(in); err == nil || !strings.Contains(err.Error(), "q8_0") {
			t.Errorf("%q: %v; the error lists what there is", in, err)
		}
	}
	seen := map[FileType]bool{}
	for _, f := range FileTypes() {
		if _, ok := f.code(); !ok || seen[f] {
			t.Errorf("%s has no code, or is listed twice", f)
		}
		seen[f] = true
	}
}

func TestTensorCount(t *testing.T) {
	for in, want := range map[string][3]int{
		"[   1/ 272]                   token_embd.weight - [  576, 49152,     1,     1], type =   q8_0, ": {1, 272, 1},
		"[ 272/ 272] x":               {272, 272, 1},
		"size =    0.002 MiB\n":       {},
		"[ 273/ 272] x":               {},
		"[   0/ 272] x":               {},
		"[]":                          {},
		"":                            {},
		"llama_model_loader: loaded ": {},
	} {
		done, total, ok := tensorCount(in)
		if ok != (want[2] == 1) || ok && (done != want[0] || total != want[1]) {
			t.Errorf("%q: %d, %d, %v", in, done, total, ok)
		}
	}
}

// A quantised model is a whole GGUF of the type that was asked for, speaks, and the
// progress counted its tensors one after the other.
func TestQuantize(t *testing.T) {
	lib, model := files(t)
	for _, to := range []FileType{"q8_0", "q4_0"} {
		t.Run(string(to), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.gguf")
			var last, of int
			err := Quantize(lib, model, out, to, 2, func(done, total int) {
				if done != last+1 || of != 0 && total != of {
					t.Errorf("%d of %d after %d of %d", done, total, last, of)
				}
				last, of = done, total
			})
			if err != nil {
				t.Fatal(err)
			}
			if of == 0 || last != of {
				t.Errorf("progress ended at %d of %d", last, of)
			}
			if err := models.CheckGGUF(out); err != nil {
				t.Fatal(err)
			}
			tok, err := OpenTokenizer(lib, out)
			if err != nil {
				t.Fatal(err)
			}
			defer tok.Close()
			prompt, err := tok.Encode("1 2 3 4 5 6 7 8 9 10 11 12 13", tokenizer.EncodeOptions{AddSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			p := openPlain(t, lib, out, 256, 64)
			if desc := llama.ModelDesc(p.model); !strings.Contains(desc, strings.ToUpper(string(to))) {
				t.Errorf("it says of itself %q, not %s", desc, to)
			}
			if got := text(tok.Vocab(), p.greedy(prompt, 3)); !strings.HasPrefix(got, " 14") {
				t.Errorf("it goes on with %q", got)
			}
		})
	}
}

func TestQuantizeErrors(t *testing.T) {
	lib, model := files(t)
	dir := t.TempDir()
	page := filepath.Join(dir, "page.gguf")
	if err := os.WriteFile(page, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.gguf")
	for name, c := range map[string]struct {
		in, out string
		to      FileType
		threads int
		want    string
	}{
		"type":          {model, out, "q9_9", 0, `unknown type "q9_9"`},
		"not a GGUF":    {page, out, "q8_0", 0, "invalid magic"},
		"no input":      {filepath.Join(dir, "none"), out, "q8_0", 0, "No such file"},
		"no folder":     {model, filepath.Join(dir, "none", "out.gguf"), "q8_0", 0, "iostream error"},
		"NUL in a name": {model, out + "\x00", "q8_0", 0, "no name"},
		"no name":       {model, "", "q8_0", 0, "no name"},
		"threads":       {model, out, "q8_0", -1, "-1 threads"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Quantize(lib, c.in, c.out, c.to, c.threads, nil)
			if !errors.Is(err, ErrQuantize) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want one with %q", err, c.want)
			}
		})
	}
}
