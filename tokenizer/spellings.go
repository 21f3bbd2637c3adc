package tokenizer

import (
	"slices"
	"strings"
)

// Spellings finds the control tokens of a vocabulary that a text spells out, such
// as "<|im_end|>". They are what a tokenizer that parses special tokens would
// read as control tokens; in text that a person wrote they must stay text. It is
// immutable and safe for concurrent use.
type Spellings struct {
	set map[string]struct{}
	// starts[b] is nil unless a spelling begins with byte b: nearly all text is
	// passed over by this look-up. A vocabulary's spellings share few lengths and
	// second bytes, so the rest is a handful of map look-ups.
	starts  [256]*spellingStart
	longest int
}

type spellingStart struct {
	second  [256]bool
	lengths []int // longest first
}

func newSpellings(v *Vocab) *Spellings {
	var all []string
	for i, a := range v.attrs {
		if a&silent != 0 {
			all = append(all, v.pieces[i])
		}
	}
	return NewSpellings(all)
}

// NewSpellings returns a finder of the given spellings; empty ones are ignored.
func NewSpellings(all []string) *Spellings {
	s := &Spellings{set: make(map[string]struct{}, len(all))}
	for _, p := range all {
		if p == "" {
			continue
		}
		s.set[p] = struct{}{}
		s.longest = max(s.longest, len(p))
		st := s.starts[p[0]]
		if st == nil {
			st = new(spellingStart)
			s.starts[p[0]] = st
		}
		if len(p) > 1 {
			st.second[p[1]] = true
		}
		if !slices.Contains(st.lengths, len(p)) {
			st.lengths = append(st.lengths, len(p))
		}
	}
	for _, st := range s.starts {
		if st != nil {
			slices.SortFunc(st.lengths, func(a, b int) int { return b - a })
		}
	}
	return s
}

// Len is the number of different spellings.
func (s *Spellings) Len() int { return len(s.set) }

// Longest is the length of the longest spelling in bytes.
func (s *Spellings) Longest() int { return s.longest }

// Has reports whether text is exactly one spelling.
func (s *Spellings) Has(text string) bool {
	_, ok := s.set[text]
	return ok
}

// Next returns the place text[i:j] of the first spelling at or after from, the
// longest if several begin there. ok is false if there is none.
func (s *Spellings) Next(text string, from int) (i, j int, ok bool) {
	if len(s.set) == 0 {
		return 0, 0, false
	}
	for i := from; i < len(text); i++ {
		st := s.starts[text[i]]
		if st == nil {
			continue
		}
		var second bool
		if i+1 < len(text) {
			second = st.second[text[i+1]]
		}
		for _, n := range st.lengths {
			if n > 1 && !second || i+n > len(text) {
				continue
			}
			if _, ok := s.set[text[i:i+n]]; ok {
				return i, i + n, true
			}
		}
	}
	return 0, 0, false
}

// Mark returns text with open before and shut behind each spelling.
func (s *Spellings) Mark(text, open, shut string) string {
	i, j, ok := s.Next(text, 0)
	if !ok {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 4*(len(open)+len(shut)))
	at := 0
	for ; ok; i, j, ok = s.Next(text, j) {
		b.WriteString(text[at:i])
		b.WriteString(open)
		b.WriteString(text[i:j])
		b.WriteString(shut)
		at = j
	}
	b.WriteString(text[at:])
	return b.String()
}
