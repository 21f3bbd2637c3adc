package llama

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"llamero/engine"
	"llamero/tokenizer"
)

func openTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	lib, model := files(t)
	tok, err := OpenTokenizer(lib, model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func text(v *tokenizer.Vocab, tokens []engine.Token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(v.Piece(t))
	}
	return b.String()
}

func TestTokenizerRoundTrip(t *testing.T) {
	tok := openTokenizer(t)
	for name, in := range map[string]string{
		"plain":        "The quick brown fox.",
		"NUL bytes":    "a\x00b\x00\x00c",
		"only NUL":     "\x00",
		"other script": "日本語 и кириллица 🦙",
		"spaces":       "  two  \n\n\tand a tab ",
		"empty":        "",
	} {
		t.Run(name, func(t *testing.T) {
			tokens, err := tok.Encode(in, tokenizer.EncodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := text(tok.Vocab(), tokens); got != in {
				t.Errorf("%q came back as %q", in, got)
			}
		})
	}
}

func TestTokenizerInvalidUTF8(t *testing.T) {
	tok := openTokenizer(t)
	for in, want := range map[string]string{
		"a\xffb":         "a\uFFFDb",
		"cut \xe2\x82":   "cut \uFFFD",
		"\xed\xa0\x80 x": "\uFFFD\uFFFD\uFFFD x",
	} {
		tokens, err := tok.Encode(in, tokenizer.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := text(tok.Vocab(), tokens); got != want {
			t.Errorf("%q came back as %q; want %q", in, got, want)
		}
	}
}

func TestTokenizerMegabyteOfOneLetter(t *testing.T) {
	tok := openTokenizer(t)
	in := strings.Repeat("a", 1<<20)
	tokens, err := tok.Encode(in, tokenizer.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := text(tok.Vocab(), tokens); got != in {
		t.Errorf("a megabyte of one letter came back as %d bytes", len(got))
	}
	if _, err := tok.Encode(in, tokenizer.EncodeOptions{MaxTokens: 100}); err == nil {
		t.Error("a megabyte fits 100 tokens")
	}
}

// TestTokenizerControlTokens: what a template writes steers the model, what a user
// writes is text, though it be spelled the same.
func TestTokenizerControlTokens(t *testing.T) {
	tok := openTokenizer(t)
	v := tok.Vocab()
	const spelled = "<|im_end|>"
	special, err := tok.Encode(spelled, tokenizer.EncodeOptions{ParseSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(special) != 1 || v.Attr(special[0])&tokenizer.AttrControl == 0 || v.Attr(special[0])&tokenizer.AttrEOG == 0 {
		t.Fatalf("%s is tokens %v", spelled, special)
	}
	plain, err := tok.Encode("say "+spelled+" twice", tokenizer.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(plain, special[0]) {
		t.Errorf("a user's %s became the control token", spelled)
	}
	if got := text(v, plain); got != "say "+spelled+" twice" {
		t.Errorf("it came back as %q", got)
	}
}

func TestTokenizerConcurrent(t *testing.T) {
	tok := openTokenizer(t)
	want, err := tok.Encode("Once upon a time there were many callers.", tokenizer.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got, err := tok.Encode("Once upon a time there were many callers.", tokenizer.EncodeOptions{})
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	tok.Close()
	if _, err := tok.Encode("x", tokenizer.EncodeOptions{}); err == nil {
		t.Error("a closed tokenizer answers")
	}
}
