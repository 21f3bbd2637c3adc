package tokenizer

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// fake is a tokenizer over a vocabulary of one-letter words: it takes what
// libllama takes, tells on whoever hands it anything else, and counts its calls.
type fake struct {
	t     *testing.T
	vocab *Vocab
	eos   bool // AddSpecial adds EOS, too
	calls int
}

const (
	fakeBOS = Token(256 + iota)
	fakeEOS
	fakeEnd
	fakeLong
)

func newFake(t *testing.T) *fake {
	pieces := make([]string, 256)
	attrs := make([]Attr, 256)
	for i := range pieces {
		pieces[i] = string([]byte{byte(i)})
		attrs[i] = AttrByte
	}
	pieces = append(pieces, "<s>", "</s>", "<|end|>", "ninebytes")
	attrs = append(attrs, AttrControl, AttrControl|AttrEOG, AttrControl|AttrEOG, 0)
	return &fake{t: t, vocab: NewVocab(pieces, attrs, fakeBOS, fakeEOS)}
}

func (f *fake) Vocab() *Vocab { return f.vocab }

func (f *fake) Encode(text string, opt EncodeOptions) ([]Token, error) {
	return EncodeWith(f.native, f.vocab, text, opt)
}

func (f *fake) native(text string, addSpecial, parseSpecial bool) ([]Token, error) {
	f.calls++
	if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
		f.t.Errorf("the library was given %q", text)
	}
	var out []Token
	if addSpecial {
		out = append(out, fakeBOS)
	}
	for text != "" {
		n := 1
		tok := Token(text[0])
		for _, c := range []Token{fakeBOS, fakeEOS, fakeEnd, fakeLong} {
			if p := f.vocab.Piece(c); (parseSpecial || c == fakeLong) && strings.HasPrefix(text, p) {
				tok, n = c, len(p)
			}
		}
		out = append(out, tok)
		text = text[n:]
	}
	if addSpecial && f.eos {
		out = append(out, fakeEOS)
	}
	return out, nil
}

// spell shows tokens: control tokens in brackets.
func spell(v *Vocab, tokens []Token) string {
	var b strings.Builder
	for _, t := range tokens {
		if v.Attr(t)&AttrControl != 0 {
			b.WriteString("[" + v.Piece(t) + "]")
		} else {
			b.WriteString(v.Piece(t))
		}
	}
	return b.String()
}

func TestEncodeWith(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		opt        EncodeOptions
		eos        bool
		want       string
	}{
		{name: "plain", text: "abc", want: "abc"},
		{name: "empty", text: "", want: ""},
		{name: "special", text: "a", opt: EncodeOptions{AddSpecial: true}, eos: true, want: "[<s>]a[</s>]"},
		{name: "spelled", text: "a<|end|>", want: "a<|end|>"},
		{name: "parsed", text: "a<|end|>", opt: EncodeOptions{ParseSpecial: true}, want: "a[<|end|>]"},
		{name: "invalid UTF-8", text: "a\xFFb\xE2\x82", want: "a\uFFFDb\uFFFD"},
		{name: "NUL", text: "a\x00b", want: "a\x00b"},
		{name: "NULs alone", text: "\x00\x00", want: "\x00\x00"},
		{name: "NUL at the ends", text: "\x00a\x00", want: "\x00a\x00"},
		{name: "NUL with special", text: "a\x00", opt: EncodeOptions{AddSpecial: true}, eos: true, want: "[<s>]a\x00[</s>]"},
		{name: "NUL in a control token", text: "<|en\x00d|>", opt: EncodeOptions{ParseSpecial: true}, want: "<|en\x00d|>"},
		{name: "NUL and invalid", text: "\x00\xFF\x00", want: "\x00\uFFFD\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.eos = tc.eos
			got, err := f.Encode(tc.text, tc.opt)
			if err != nil || spell(f.vocab, got) != tc.want {
				t.Errorf("got %q, %v; want %q", spell(f.vocab, got), err, tc.want)
			}
		})
	}
}

func TestEncodeWithoutNULToken(t *testing.T) {
	v := table("a", "b")
	native := func(string, bool, bool) ([]Token, error) { return []Token{0}, nil }
	if _, err := EncodeWith(native, v, "a\x00b", EncodeOptions{}); !errors.Is(err, ErrUnencodable) {
		t.Errorf("got %v, want ErrUnencodable", err)
	}
}

func TestEncodeTooLong(t *testing.T) {
	for _, tc := range []struct {
		name, text  string
		max, tokens int
		calls       int // of the library
	}{
		{"a megabyte of one letter", strings.Repeat("a", 1<<20), 100, 1<<20/9 + 1, 0},
		{"one byte beyond any spelling", strings.Repeat("ninebytes", 10) + "a", 10, 11, 0},
		{"one token too many", strings.Repeat("a", 11), 10, 11, 1},
		{"a NUL between letters, stopped early", strings.Repeat("a\x00", 45), 10, 11, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			_, err := f.Encode(tc.text, EncodeOptions{MaxTokens: tc.max})
			var long *TooLongError
			if !errors.Is(err, ErrTooLong) || !errors.As(err, &long) {
				t.Fatalf("got %v, want ErrTooLong", err)
			}
			if *long != (TooLongError{Bytes: len(tc.text), Tokens: tc.tokens, Limit: tc.max}) || f.calls != tc.calls {
				t.Errorf("got %+v after %d calls, want %d tokens after %d", *long, f.calls, tc.tokens, tc.calls)
			}
		})
	}
	f := newFake(t)
	if got, err := f.Encode(strings.Repeat("ninebytes", 10), EncodeOptions{MaxTokens: 10}); err != nil || len(got) != 10 {
		t.Errorf("what just fits: %d tokens, %v", len(got), err)
	}
}

func TestEncodeSegments(t *testing.T) {
	tmpl := func(s string) Segment { return Segment{Text: s, Special: true} }
	text := func(s string) Segment { return Segment{Text: s} }
	for _, tc := range []struct {
		name string
		segs []Segment
		add  bool
		eos  bool
		want string
	}{
		{"control token spelled by a user", []Segment{tmpl("u:say "), text("<|end|>"), tmpl("<|end|>")}, false, false, "u:say <|end|>[<|end|>]"},
		{"BOS added", []Segment{tmpl("a"), text("<s>")}, true, false, "[<s>]a<s>"},
		{"BOS not doubled", []Segment{tmpl("<s>a"), tmpl("b")}, true, false, "[<s>]ab"},
		{"a spelled BOS is none", []Segment{text("<s>"), tmpl("a")}, true, false, "[<s>]<s>a"},
		{"no EOS behind", []Segment{tmpl("a"), tmpl("b")}, true, true, "[<s>]ab"},
		{"the template's EOS", []Segment{tmpl("a</s>")}, false, true, "a[</s>]"},
		{"empty", nil, true, false, "[<s>]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.eos = tc.eos
			got, err := EncodeSegments(f, tc.segs, EncodeOptions{AddSpecial: tc.add})
			if err != nil || spell(f.vocab, got) != tc.want {
				t.Errorf("got %q, %v; want %q", spell(f.vocab, got), err, tc.want)
			}
		})
	}

	f := newFake(t)
	_, err := EncodeSegments(f, []Segment{tmpl("aaaaaa"), text("<s>"), tmpl("bbb")}, EncodeOptions{MaxTokens: 8})
	var long *TooLongError
	if !errors.As(err, &long) || *long != (TooLongError{Bytes: 12, Tokens: 9, Limit: 8}) {
		t.Errorf("too long in the second segment: %+v, %v", long, err)
	}
	if _, err := EncodeSegments(f, []Segment{tmpl(strings.Repeat("a", 50)), tmpl(strings.Repeat("a", 50))}, EncodeOptions{MaxTokens: 11}); !errors.Is(err, ErrTooLong) || f.calls != 2 {
		t.Errorf("too long together: %v after %d calls", err, f.calls)
	}
}

func TestVocab(t *testing.T) {
	v := NewVocab([]string{"a", "<0x61>", "\n", "\n", "<s>", "</s>", "<unk>", "word"},
		[]Attr{0, AttrControl, 0, AttrByte, AttrControl, AttrControl | AttrEOG, AttrUnknown}, 4, 5)
	if got := v.EOG(); !slices.Equal(got, []Token{5}) {
		t.Errorf("EOG %v", got)
	}
	if v.ByteToken('a') != 0 || v.ByteToken('\n') != 3 || v.ByteToken('b') != None {
		t.Errorf("byte tokens: a %d, newline %d, b %d", v.ByteToken('a'), v.ByteToken('\n'), v.ByteToken('b'))
	}
	if v.LongestPiece() != len("<0x61>") {
		t.Errorf("longest piece %d", v.LongestPiece())
	}
	for tok, want := range map[Token][2]string{
		0: {"a", "a"}, 4: {"<s>", ""}, 6: {"<unk>", ""}, 7: {"word", "word"}, None: {"", ""}, 8: {"", ""},
	} {
		if v.Piece(tok) != want[0] || v.Text(tok) != want[1] {
			t.Errorf("token %d: piece %q, text %q, want %q", tok, v.Piece(tok), v.Text(tok), want)
		}
	}
	if v.Attr(None) != AttrUnknown || v.Attr(5) != AttrControl|AttrEOG || v.Attr(7) != 0 {
		t.Error("attributes")
	}
}

func TestPure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if slices.Contains([]string{"time", "net", "os", "log", "log/slog", "context"}, p) || strings.Contains(p, ".") {
			t.Errorf("package tokenizer imports %s", p)
		}
	}
}
