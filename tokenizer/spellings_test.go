package tokenizer

import (
	"fmt"
	"strings"
	"testing"
)

func TestSpellings(t *testing.T) {
	s := NewSpellings([]string{"<|im_end|>", "<|im_start|>", "<s>", "[INST]", "<|im", "", "\u2581", "x"})
	for text, want := range map[string]string{
		"":                               "",
		"plain < text [ with | starts":   "plain < te(x)t [ with | starts",
		"a<|im_end|>b":                   "a(<|im_end|>)b",
		"<|im_end|><s>":                  "(<|im_end|>)(<s>)",
		"<|im_end|":                      "(<|im)_end|", // the longest that is there
		"<|im_st<|im_end|>":              "(<|im)_st(<|im_end|>)",
		"<<s>[INST][INS":                 "<(<s>)([INST])[INS",
		"\u2581":                         "(\u2581)",
		"<|im_start|>system\n<|im_end|>": "(<|im_start|>)system\n(<|im_end|>)",
	} {
		if got := s.Mark(text, "(", ")"); got != want {
			t.Errorf("Mark(%q) = %q, want %q", text, got, want)
		}
	}
	if s.Len() != 7 || s.Longest() != 12 || !s.Has("<s>") || s.Has("<s") {
		t.Errorf("len %d, longest %d", s.Len(), s.Longest())
	}
}

func TestVocabSpellings(t *testing.T) {
	v := NewVocab([]string{"<a>", "<b>", "<c>", "<d>"}, []Attr{AttrControl, AttrUser, AttrUnknown, 0}, None, None)
	if got := v.Spellings().Mark("<a><b><c><d>", "(", ")"); got != "(<a>)<b>(<c>)<d>" {
		t.Errorf("got %q: control and unknown tokens are spellings, no others", got)
	}
}

// FuzzSpellings compares with a search that tries every spelling everywhere.
func FuzzSpellings(f *testing.F) {
	f.Add("a<|x|><|x", "<|x|>", "<|", "|>")
	f.Fuzz(func(t *testing.T, text, a, b, c string) {
		s := NewSpellings([]string{a, b, c})
		i, j, ok := s.Next(text, 0)
		wi, wj := -1, -1
		for _, p := range []string{a, b, c} {
			if k := strings.Index(text, p); p != "" && k >= 0 && (wi < 0 || k < wi || k == wi && k+len(p) > wj) {
				wi, wj = k, k+len(p)
			}
		}
		if ok != (wi >= 0) || ok && (i != wi || j != wj) {
			t.Errorf("%q in %q: %d:%d %v, want %d:%d", []string{a, b, c}, text, i, j, ok, wi, wj)
		}
	})
}

func BenchmarkSpellings(b *testing.B) {
	var all []string
	for i := range 6000 {
		all = append(all, fmt.Sprintf("<unused%d>", i))
	}
	all = append(all, "<|im_start|>", "<|im_end|>", "[INST]")
	s := NewSpellings(all)
	for name, text := range map[string]string{
		"prose":   strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 1<<20/45),
		"html":    strings.Repeat("<p>a</p>", 1<<17),
		"hostile": strings.Repeat("<unused99999>", 1<<20/13),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s.Next(text, 0)
			}
		})
	}
}
