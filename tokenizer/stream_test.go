package tokenizer

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// table makes a vocabulary of ordinary pieces.
func table(pieces ...string) *Vocab {
	return NewVocab(pieces, nil, None, None)
}

func all(v *Vocab) []Token {
	out := make([]Token, v.Len())
	for i := range out {
		out[i] = Token(i)
	}
	return out
}

func TestDecoderSteps(t *testing.T) {
	type step struct {
		piece    string
		text     string
		released int
	}
	for _, tc := range []struct {
		name       string
		stop       []string
		steps      []step
		stopped    string
		flush      string
		flushCount int
	}{
		{name: "plain", steps: []step{{"Hello", "Hello", 1}, {" world", " world", 1}}},
		{name: "a rune in three tokens", steps: []step{{"\xE2", "", 0}, {"\x82", "", 0}, {"\xAC!", "€!", 3}}},
		{name: "an unfinished rune", steps: []step{{"a\xF0\x9F", "a", 0}, {"\xA6", "", 0}}, flush: "\uFFFD", flushCount: 2},
		{name: "a broken rune", steps: []step{{"\xE2\x82", "", 0}, {"A", "\uFFFDA", 2}}},
		{name: "a lone continuation", steps: []step{{"\x80\x80", "\uFFFD\uFFFD", 1}}},
		{name: "nothing to say", steps: []step{{"", "", 1}, {"a", "a", 1}}},
		{name: "stop in one token", stop: []string{"."}, steps: []step{{"one", "one", 1}, {" two. three", " two", 1}}, stopped: "."},
		{name: "stop across tokens", stop: []string{"STOP"}, steps: []step{{"a S", "a ", 0}, {"TO", "", 0}, {"P b", "", 1}}, stopped: "STOP"},
		{name: "stop is the token", stop: []string{"\n\n"}, steps: []step{{"a", "a", 1}, {"\n\n", "", 0}}, stopped: "\n\n"},
		{name: "false alarm", stop: []string{"STOP"}, steps: []step{{"ST", "", 0}, {"O", "", 0}, {"RY", "STORY", 3}}},
		{name: "overlapping start", stop: []string{"aab"}, steps: []step{{"a", "", 0}, {"a", "", 0}, {"a", "a", 1}, {"b", "", 0}}, stopped: "aab"},
		{name: "a border's border", stop: []string{"aabaaac"}, steps: []step{{"aabaaa", "", 0}, {"b", "aaba", 0}, {"aaac", "", 1}}, stopped: "aabaaac"},
		{name: "the first to end", stop: []string{"abcd", "bc"}, steps: []step{{"ab", "", 0}, {"cd", "a", 1}}, stopped: "bc"},
		{name: "the longest of one end", stop: []string{"c", "abc"}, steps: []step{{"xab", "x", 0}, {"c", "", 1}}, stopped: "abc"},
		{name: "stop in half a rune", stop: []string{"€"}, steps: []step{{"x\xE2\x82", "x", 0}, {"\xACy", "", 1}}, stopped: "€"},
		{name: "held at the end", stop: []string{"STOP"}, steps: []step{{"go", "go", 1}, {" ST", " ", 0}}, flush: "ST", flushCount: 1},
		{name: "stop completed by flush", stop: []string{"\uFFFD"}, steps: []step{{"a", "a", 1}, {"\xE2", "", 0}}, stopped: "\uFFFD"},
		{name: "empty stop", stop: []string{""}, steps: []step{{"a", "a", 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pieces []string
			for _, s := range tc.steps {
				pieces = append(pieces, s.piece)
			}
			d := NewDecoder(table(pieces...), DecoderOptions{Stop: tc.stop})
			for i, s := range tc.steps {
				text, released := d.Append(nil, Token(i))
				if string(text) != s.text || released != s.released {
					t.Errorf("token %d: %q, %d released; want %q, %d", i, text, released, s.text, s.released)
				}
			}
			rest, n := d.Flush(nil)
			if string(rest) != tc.flush || n != tc.flushCount {
				t.Errorf("flush: %q, %d released; want %q, %d", rest, n, tc.flush, tc.flushCount)
			}
			if d.Stop() != tc.stopped {
				t.Errorf("stopped by %q, want %q", d.Stop(), tc.stopped)
			}
		})
	}
}

func TestDecoderPush(t *testing.T) {
	v := table("one", " two", " S", "TOP", " three")
	d := NewDecoder(v, DecoderOptions{Stop: []string{"STOP"}})
	if got, want := d.Push(all(v)...), (Chunk{Text: "one two ", Taken: 4, Released: 3, Stopped: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := d.Push(0); got != (Chunk{Stopped: true}) {
		t.Errorf("after the stop string: %+v", got)
	}
}

func TestDecoderSpecial(t *testing.T) {
	v := NewVocab([]string{"hi", "<|im_end|>", "<unk>"}, []Attr{0, AttrControl | AttrEOG, AttrUnknown}, None, 1)
	for special, want := range map[bool]string{false: "hi", true: "hi<|im_end|><unk>"} {
		got := NewDecoder(v, DecoderOptions{Special: special}).Push(all(v)...)
		if got.Text != want || got.Released != 3 {
			t.Errorf("special %v: %+v, want %q", special, got, want)
		}
	}
}

// dumb decodes all at once: the oracle. The match that ends first wins, and of
// those that end together the longest.
func dumb(pieces, stop []string) (text, found string, taken int) {
	for taken = 0; taken <= len(pieces); taken++ {
		whole := strings.Join(pieces[:taken], "")
		if taken < len(pieces) {
			whole = complete(whole)
		}
		whole = Sanitise(whole)
		end := len(whole) + 1
		for _, s := range stop {
			if i := strings.Index(whole, s); s != "" && i >= 0 && (i+len(s) < end || i+len(s) == end && len(s) > len(found)) {
				end, found = i+len(s), s
			}
		}
		if found != "" {
			return whole[:end-len(found)], found, taken
		}
		text = whole
	}
	return text, "", len(pieces)
}

// complete cuts an unfinished UTF-8 sequence off the end.
func complete(s string) string {
	for n := 1; n <= min(3, len(s)); n++ {
		if end := s[len(s)-n:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRuneInString(end) {
				return s[:len(s)-n]
			}
			break
		}
	}
	return s
}

// checkDecoder feeds pieces one at a time and together, and compares with the oracle.
func checkDecoder(t *testing.T, pieces, stop []string) {
	t.Helper()
	want, found, taken := dumb(pieces, stop)
	v := table(pieces...)
	d := NewDecoder(v, DecoderOptions{Stop: stop})
	var text []byte
	released, took := 0, 0
	for i := range pieces {
		if d.Stop() != "" {
			break
		}
		var n int
		text, n = d.Append(text, Token(i))
		took++
		released += n
		if !utf8.Valid(text) {
			t.Fatalf("%q, stop %q: %q is not UTF-8", pieces, stop, text)
		}
		if !strings.HasPrefix(want, string(text)) {
			t.Fatalf("%q, stop %q: released %q, but the answer is %q", pieces, stop, text, want)
		}
		checkReleased(t, pieces[:i+1], text, released, d.Stop() != "")
		// Nothing is held that cannot become a stop string.
		if d.Stop() == "" {
			whole := Sanitise(complete(strings.Join(pieces[:i+1], "")))
			if held := whole[len(text):]; held != "" && !beginsAny(held, stop) {
				t.Fatalf("%q, stop %q: %q is held back", pieces[:i+1], stop, held)
			}
		}
	}
	text, n := d.Flush(text)
	released += n
	if string(text) != want || d.Stop() != found || found != "" && took != min(taken, len(pieces)) {
		t.Fatalf("%q, stop %q:\n got %q, stopped by %q at %d\nwant %q, %q, %d", pieces, stop, text, d.Stop(), took, want, found, taken)
	}
	if found == "" && released != len(pieces) {
		t.Fatalf("%q, stop %q: %d of %d tokens released", pieces, stop, released, len(pieces))
	}

	d = NewDecoder(v, DecoderOptions{Stop: stop})
	c := d.Push(all(v)...)
	rest, n := d.Flush(nil)
	if c.Text+string(rest) != want || c.Released+n != released || c.Taken != took {
		t.Fatalf("%q, stop %q: together %+v + %q (%d); one by one %q, %d", pieces, stop, c, rest, n, want, released)
	}
}

// checkReleased holds the count against the text: the tokens counted have all of
// their text in it, and the next has not.
func checkReleased(t *testing.T, pieces []string, text []byte, released int, stopped bool) {
	t.Helper()
	if released > len(pieces) {
		t.Fatalf("%q: %d tokens released", pieces, released)
	}
	if stopped {
		return
	}
	begun := func(n int) string { // the text up to the end of token n, its last rune whole
		whole := strings.Join(pieces[:n], "")
		if cut := complete(whole); len(cut) < len(whole) {
			return Sanitise(cut) + "?"
		}
		return Sanitise(whole)
	}
	if n := len(begun(released)); n > len(text) {
		t.Fatalf("%q: %d tokens count as released with %q", pieces, released, text)
	}
	if released < len(pieces) {
		if n := len(begun(released + 1)); n <= len(text) {
			t.Fatalf("%q: token %d is in %q but does not count as released", pieces, released, text)
		}
	}
}

func beginsAny(s string, stop []string) bool {
	for _, x := range stop {
		if strings.HasPrefix(x, s) {
			return true
		}
	}
	return false
}

// split cuts s at places that seed chooses, bytes of a rune apart included.
func split(s string, seed uint64) []string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var out []string
	for s != "" {
		n := min(len(s), rng.IntN(5))
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

func TestDecoderOracle(t *testing.T) {
	alphabets := []string{"ab", "ab\n€", "a€\U0001F999\uFFFD", "a\xE2\x82\xAC\xF0\x9F\xFF"}
	rng := rand.New(rand.NewPCG(3, 14))
	random := func(alphabet string, n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	for i := range 20000 {
		alphabet := alphabets[i%len(alphabets)]
		var stop []string
		for range rng.IntN(MaxStops + 1) {
			stop = append(stop, Sanitise(random(alphabet, 1+rng.IntN(9))))
		}
		checkDecoder(t, split(random(alphabet, rng.IntN(30)), rng.Uint64()), stop)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add("Hello, wörld\xE2\x82", "wö", "", "ld", "STOP", uint64(1))
	f.Add("aaaaabaaab", "aaab", "ab", "b", "aa", uint64(2))
	f.Add("\xF0\x9F\xA6\x99\xF0\x9F", "\U0001F999", "\uFFFD", "", "", uint64(3))
	f.Fuzz(func(t *testing.T, text, a, b, c, d string, seed uint64) {
		if len(text) > 200 {
			return
		}
		checkDecoder(t, split(text, seed), []string{Sanitise(a), Sanitise(b), Sanitise(c), Sanitise(d)})
	})
}

func TestSanitise(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"plain":                     "plain",
		"a\x00b":                    "a\x00b",
		"a\xFFb":                    "a\uFFFDb",
		"\xE2\x82":                  "\uFFFD",
		"\xE2\x82A":                 "\uFFFDA",
		"\xF0\x9F\xA6\xF0\x9F":      "\uFFFD\uFFFD",
		"\xED\xA0\x80":              "\uFFFD\uFFFD\uFFFD", // a surrogate
		"\xC0\xAF":                  "\uFFFD\uFFFD",       // overlong
		"\xF4\x91\x92\x93\xFFA\x80": "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD",
		"\uFFFD":                    "\uFFFD",
	} {
		if got := Sanitise(in); got != want {
			t.Errorf("Sanitise(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDecoderAllocations(t *testing.T) {
	v := table(" the", " quick", "\xF0\x9F", "\xA6\x99", "\n", "\n")
	dst := make([]byte, 0, 256)
	for name, stop := range map[string][]string{"no stop strings": nil, "stop strings": {"\n\n\n", "###", "User:", " quicker"}} {
		d := NewDecoder(v, DecoderOptions{Stop: stop})
		n := testing.AllocsPerRun(1000, func() {
			for i := range v.Len() {
				dst, _ = d.Append(dst[:0], Token(i))
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations for %d tokens", name, n, v.Len())
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	pieces := strings.SplitAfter(strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 20), " ")
	pieces = append(pieces, "\xF0\x9F", "\xA6\x99")
	v := table(pieces...)
	for _, bm := range []struct {
		name string
		stop []string
	}{{"plain", nil}, {"stop", []string{"\n\n", "###", "User:", "</answer>"}}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			d := NewDecoder(v, DecoderOptions{Stop: bm.stop})
			dst := bytes.Repeat([]byte{0}, 256)
			i := 0
			for b.Loop() {
				dst, _ = d.Append(dst[:0], Token(i))
				if i++; i == len(pieces) {
					i = 0
				}
			}
		})
		b.Run(bm.name+"/push", func(b *testing.B) {
			b.ReportAllocs()
			d := NewDecoder(v, DecoderOptions{Stop: bm.stop})
			i := 0
			for b.Loop() {
				d.Push(Token(i))
				if i++; i == len(pieces) {
					i = 0
				}
			}
		})
	}
}
