//go:build unix

package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"llamero/engine/llama"
	"llamero/tokenizer"
)

func startLetters(t testing.TB, model string) *Encoder {
	t.Helper()
	e, err := StartEncoder(children(t, childFake), "", model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func spelled(text string) []tokenizer.Token {
	var out []tokenizer.Token
	for i := range len(text) {
		out = append(out, tokenizer.Token(text[i]))
	}
	return out
}

func (e *Encoder) child(t *testing.T) *encoderChild {
	t.Helper()
	c, err := e.keeper.wait(within(t, soon))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEncoder(t *testing.T) {
	e := startLetters(t, "")
	if v := e.Vocab(); v.Len() != 256 || v.Piece('x') != "x" || v.BOS() != 1 || v.EOS() != 2 || e.Info().ChatTemplate != "{{ x }}" || !e.Ready() {
		t.Errorf("a vocabulary of %d, %+v", v.Len(), e.Info())
	}
	for _, tt := range []struct {
		text string
		opt  tokenizer.EncodeOptions
		want []tokenizer.Token
	}{
		{"abc", tokenizer.EncodeOptions{}, spelled("abc")},
		{"", tokenizer.EncodeOptions{AddSpecial: true}, []tokenizer.Token{1}},
		{"a\xff", tokenizer.EncodeOptions{}, spelled("a\uFFFD")},
		{"a\x00b", tokenizer.EncodeOptions{}, []tokenizer.Token{'a', 0, 'b'}},
		{"x", tokenizer.EncodeOptions{ParseSpecial: true}, []tokenizer.Token{'x', 2}},
	} {
		if got, err := e.Encode(tt.text, tt.opt); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v (%v), want %v", tt.text, got, err, tt.want)
		}
	}
	if _, err := e.Encode("refuse", tokenizer.EncodeOptions{}); err == nil || err.Error() != "refused" {
		t.Errorf("%v", err)
	}
	if _, err := e.Encode(strings.Repeat("a", maxEncode+1), tokenizer.EncodeOptions{}); !errors.Is(err, tokenizer.ErrTooLong) {
		t.Errorf("%v", err)
	}
	if _, err := StartEncoder(children(t, childFake), "", "fail"); err == nil || !strings.Contains(err.Error(), "not a GGUF") {
		t.Errorf("%v", err)
	}
}

// Many texts at once, the process killed in between: all are tokenised.
func TestEncoderDeath(t *testing.T) {
	e := startLetters(t, "")
	for range 3 {
		child := e.child(t)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				text := fmt.Sprintf("slow %d", i)
				if got, err := e.Encode(text, tokenizer.EncodeOptions{}); err != nil || !slices.Equal(got, spelled(text)) {
					t.Errorf("%q: %v (%v)", text, got, err)
				}
			})
		}
		signalTo(t, child.pid(), syscall.SIGKILL)
		wg.Wait()
		<-child.gone
	}
}

// A text that ends the process fails by itself; those beside it do not.
func TestEncoderPoison(t *testing.T) {
	e := startLetters(t, "")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			text := fmt.Sprintf("slow %d", i)
			if i == 7 {
				text = "kill"
			}
			got, err := e.Encode(text, tokenizer.EncodeOptions{})
			switch {
			case i == 7 && !errors.Is(err, tokenizer.ErrUnencodable):
				t.Errorf("a text that kills: %v (%v)", got, err)
			case i != 7 && (err != nil || !slices.Equal(got, spelled(text))):
				t.Errorf("%q: %v (%v)", text, got, err)
			}
		})
	}
	wg.Wait()
}

// A text that never comes back is given up, with the process; others go on.
func TestEncoderHang(t *testing.T) {
	t.Parallel()
	e := startLetters(t, "")
	if got, err := e.Encode("hang", tokenizer.EncodeOptions{}); !errors.Is(err, tokenizer.ErrUnencodable) {
		t.Errorf("%v (%v)", got, err)
	}
	if got, err := e.Encode("ab", tokenizer.EncodeOptions{}); err != nil || !slices.Equal(got, spelled("ab")) {
		t.Errorf("%v (%v)", got, err)
	}
}

// A vocabulary that is another one after a restart is not gone on with.
func TestEncoderReplaced(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(model, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := startLetters(t, model)
	child := e.child(t)
	if err := os.WriteFile(model, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	signalTo(t, child.pid(), syscall.SIGKILL)
	<-child.gone
	if _, err := e.keeper.wait(within(t, 500*1e6)); err == nil || e.Ready() {
		t.Error("it goes on with another vocabulary")
	}
	if err := os.WriteFile(model, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Encode("ab", tokenizer.EncodeOptions{}); err != nil || !slices.Equal(got, spelled("ab")) {
		t.Errorf("%v (%v)", got, err)
	}
}

func TestEncoderClosed(t *testing.T) {
	e := startLetters(t, "")
	e.Close()
	if _, err := e.Encode("a", tokenizer.EncodeOptions{}); err == nil {
		t.Error("a closed encoder goes on")
	}
}

// TestEncoderIsLlamas: what llama.cpp says in this process it says in another.
func TestEncoderIsLlamas(t *testing.T) {
	lib, model := files(t)
	want, err := llama.OpenTokenizer(lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	e, err := StartEncoder(children(t, childReal), lib, model)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.Info() != want.Info() || e.Vocab().Len() != want.Vocab().Len() || e.Vocab().BOS() != want.Vocab().BOS() || !slices.Equal(e.Vocab().EOG(), want.Vocab().EOG()) {
		t.Errorf("%+v, want %+v", e.Info(), want.Info())
	}
	for i := range want.Vocab().Len() {
		x := tokenizer.Token(i)
		if e.Vocab().Piece(x) != want.Vocab().Piece(x) || e.Vocab().Attr(x) != want.Vocab().Attr(x) {
			t.Fatalf("token %d is %q, want %q", i, e.Vocab().Piece(x), want.Vocab().Piece(x))
		}
	}
	for _, text := range []string{"", "The quick brown fox.", "日本語 и 🦙\n\n\tx", "a\x00b", "<|im_end|>", "cut \xe2\x82"} {
		for _, opt := range []tokenizer.EncodeOptions{{}, {AddSpecial: true}, {ParseSpecial: true}} {
			a, aerr := want.Encode(text, opt)
			b, berr := e.Encode(text, opt)
			if !slices.Equal(a, b) || aerr != nil || berr != nil {
				t.Errorf("%q %+v: %v (%v), want %v (%v)", text, opt, b, berr, a, aerr)
			}
		}
	}
}
