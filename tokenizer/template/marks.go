package template

import (
	"strings"

	"llamero/tokenizer"
)

// marks go around spelled control tokens; the zero value marks nothing.
type marks struct {
	controls   *tokenizer.Spellings
	open, shut string
}

// The candidates for marks: Unicode's noncharacters, which it keeps for internal
// use. All begin with the same two bytes.
const (
	firstMark  = '\uFDD0'
	lastMark   = '\uFDEF'
	markPrefix = "\xEF\xB7"
)

// marks chooses two noncharacters that neither the template nor the conversation
// has, if the conversation spells a control token at all.
func (t *Template) marks(conv Conversation) (marks, error) {
	if t.Controls == nil || t.Controls.Len() == 0 {
		return marks{}, nil
	}
	spelled := false
	var used [lastMark - firstMark + 1]bool
	look := func(s string) string {
		if !spelled {
			_, _, spelled = t.Controls.Next(s, 0)
		}
		if strings.Contains(s, markPrefix) {
			for _, r := range s {
				if r >= firstMark && r <= lastMark {
					used[r-firstMark] = true
				}
			}
		}
		return s
	}
	if _, err := (converter{text: look}).conversation(conv); err != nil {
		return marks{}, err
	}
	if !spelled {
		return marks{}, nil
	}
	look(t.source)
	m := marks{controls: t.Controls}
	for i, taken := range used {
		switch {
		case taken:
		case m.open == "":
			m.open = string(rune(firstMark + i))
		case m.shut == "":
			m.shut = string(rune(firstMark + i))
		}
	}
	if m.shut == "" {
		return marks{}, &RequestError{Msg: "the messages hold all of Unicode's noncharacters U+FDD0 to U+FDEF; leave one out"}
	}
	return m, nil
}

func (m marks) mark(s string) string {
	if m.controls == nil {
		return s
	}
	return m.controls.Mark(s, m.open, m.shut)
}

// cut splits a rendered prompt at the marks. Only a whole spelling between two
// marks is text; a template may have torn others apart.
func (m marks) cut(s string) []tokenizer.Segment {
	if m.controls == nil {
		return []tokenizer.Segment{{Text: s, Special: true}}
	}
	var (
		segs []tokenizer.Segment
		run  strings.Builder // what the next segment has so far
		kind = true
	)
	flush := func() {
		if run.Len() > 0 {
			segs = append(segs, tokenizer.Segment{Text: run.String(), Special: kind})
			run.Reset()
		}
	}
	add := func(text string, special bool) {
		if text != "" && special != kind {
			flush()
			kind = special
		}
		run.WriteString(text)
	}
	longest := m.controls.Longest() + len(m.shut)
	for {
		before, rest, found := strings.Cut(s, m.open)
		add(strings.ReplaceAll(before, m.shut, ""), true)
		if !found {
			flush()
			return segs
		}
		s = rest
		spelling, _, closed := strings.Cut(rest[:min(len(rest), longest)], m.shut)
		if closed && m.controls.Has(spelling) {
			add(spelling, false)
			s = rest[len(spelling)+len(m.shut):]
		}
	}
}
