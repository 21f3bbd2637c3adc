package tokenizer

import (
	"strings"
	"unicode/utf8"
)

const replacement = "\uFFFD"

// Sanitise returns text in valid UTF-8: each maximal part of a broken sequence
// becomes one U+FFFD, as Unicode recommends (and browsers, Python and Rust do).
// Valid text is returned as it is.
func Sanitise(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 16)
	for at := 0; at < len(text); {
		n := validPrefix(text[at:])
		b.WriteString(text[at : at+n])
		at += n
		if at < len(text) {
			b.WriteString(replacement)
			at += brokenLen(text[at:])
		}
	}
	return b.String()
}

// validPrefix is the length of the longest prefix of s that is valid UTF-8.
func validPrefix(s string) int {
	at := 0
	for at < len(s) {
		if s[at] < utf8.RuneSelf {
			at++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}

// brokenLen is the length of the maximal subpart at the start of s, which begins
// with a broken sequence: the longest prefix that more bytes could have completed,
// or one byte.
func brokenLen(s string) int {
	n := 1
	for n < len(s) && n < utf8.UTFMax && !utf8.FullRuneInString(s[:n]) {
		// s[:n] could be completed; one byte more still belongs to it only if the
		// result could be, too.
		if utf8.FullRuneInString(s[:n+1]) {
			break
		}
		n++
	}
	return n
}
