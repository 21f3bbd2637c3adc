package template

import (
	"fmt"
	"regexp"
	"strings"
)

// lower rewrites a template into one that means the same to the library and
//
//   - has no text outside of tags: white space around tags is dealt with here, by
//     Jinja2's rules as transformers sets them (the library looks for the nearest
//     text even where another tag lies between, and knows no "+");
//   - reports loops, macros, assignments and output to the budget.
func lower(src string) (string, error) {
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(src)
	l := lowerer{src: strings.TrimSuffix(src, "\n"), lineStart: true}
	l.out.Grow(2 * len(src))
	for l.at < len(l.src) {
		if err := l.next(); err != nil {
			return "", err
		}
	}
	return l.out.String(), nil
}

type lowerer struct {
	src       string
	at        int
	lineStart bool // what was read last ended a line
	out       strings.Builder
}

// tag is what stands between "{%" and "%}", or another pair.
type tag struct {
	kind       byte // '{', '%' or '#'
	content    string
	start      int // in the source, for messages
	left, trim byte
}

// next reads text and the tag behind it.
func (l *lowerer) next() error {
	begin := l.at
	for begin < len(l.src) && !opens(l.src[begin:]) {
		begin++
	}
	text := l.src[l.at:begin]
	if begin == len(l.src) {
		l.text(text)
		l.at = begin
		return nil
	}
	t, err := l.tag(begin)
	if err != nil {
		return err
	}
	l.text(l.trimEnd(text, t))
	l.skipSpace(t)
	return l.write(t)
}

func opens(s string) bool {
	return len(s) >= 2 && s[0] == '{' && (s[1] == '{' || s[1] == '%' || s[1] == '#')
}

// tag reads the tag at begin, and leaves l.at behind it.
func (l *lowerer) tag(begin int) (tag, error) {
	t := tag{kind: l.src[begin+1], start: begin}
	at := begin + 2
	// "{{+" is the sign of what follows.
	if at < len(l.src) && (l.src[at] == '-' || l.src[at] == '+' && t.kind != '{') {
		t.left = l.src[at]
		at++
	}
	shut := map[byte]string{'{': "}}", '%': "%}", '#': "#}"}[t.kind]
	var content strings.Builder
	var open int // brackets
	for ; at < len(l.src); at++ {
		c := l.src[at]
		if strings.HasPrefix(l.src[at:], shut) && (t.kind != '{' || open == 0) {
			t.content = content.String()
			if n := len(t.content); n > 0 && (t.content[n-1] == '-' || t.content[n-1] == '+' && t.kind != '{') {
				t.trim = t.content[n-1]
				t.content = t.content[:n-1]
			}
			l.at = at + 2
			return t, nil
		}
		content.WriteByte(c)
		if t.kind == '#' {
			continue
		}
		switch c {
		case '\'', '"':
			end := quoted(l.src[at:])
			content.WriteString(l.src[at+1 : at+end])
			at += end - 1
		case '{', '[', '(':
			open++
		case '}', ']', ')':
			open--
			if c == '}' {
				content.WriteByte(' ') // the library ends a tag at the first "}}"
			}
		}
	}
	return t, fmt.Errorf("line %d: the tag is not closed", 1+strings.Count(l.src[:begin], "\n"))
}

// quoted is the length of the string literal at the start of s, quotes included.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1
		}
	}
	return len(s)
}

const space = " \t\n\r\v\f"

// trimEnd takes away what a tag takes away to its left.
func (l *lowerer) trimEnd(text string, t tag) string {
	switch {
	case t.left == '-':
		return strings.TrimRight(text, space)
	case t.left == '+' || t.kind == '{':
		return text
	}
	// lstrip_blocks: the indentation of a tag that is first in its line.
	line := strings.LastIndexByte(text, '\n') + 1
	if (line > 0 || l.lineStart) && strings.Trim(text[line:], space) == "" {
		return text[:line]
	}
	return text
}

// skipSpace takes away what a tag takes away to its right.
func (l *lowerer) skipSpace(t tag) {
	rest := l.src[l.at:]
	switch {
	case t.trim == '-':
		l.at += len(rest) - len(strings.TrimLeft(rest, space))
	case t.trim == 0 && t.kind != '{' && strings.HasPrefix(rest, "\n"):
		l.at++ // trim_blocks
	}
	l.lineStart = l.src[l.at-1] == '\n'
}

var (
	statement  = regexp.MustCompile(`^\s*(\w+)`)
	assignment = regexp.MustCompile(`^\s*set\s+[A-Za-z_][A-Za-z0-9_.]*\s*=`)
	escape     = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
)

func (l *lowerer) text(s string) {
	if s != "" {
		l.out.WriteString(`{{ "` + escape.Replace(s) + `" }}`)
	}
}

func (l *lowerer) stmt(s string) { l.out.WriteString("{%" + s + " %}") }

func (l *lowerer) report(fn string) { l.stmt(" if " + fn + "() %}{% endif") }

func (l *lowerer) write(t tag) error {
	switch {
	case t.kind == '#':
		return nil
	case t.kind == '{' && strings.TrimSpace(t.content) == "":
		return fmt.Errorf("line %d: an expression is missing", 1+strings.Count(l.src[:t.start], "\n"))
	case t.kind == '{':
		l.out.WriteString("{{ " + fnOut + "(" + t.content + ") }}")
		return nil
	}
	var keyword string
	if m := statement.FindStringSubmatch(t.content); m != nil {
		keyword = m[1]
	}
	switch keyword {
	case "raw":
		return l.raw(t)
	case "set":
		if n := len(assignment.FindString(t.content)); n > 0 && !strings.HasPrefix(t.content[n:], "=") {
			l.stmt(t.content[:n] + " " + fnValue + "(" + t.content[n:] + ")")
			return nil
		}
		l.stmt(t.content)
	case "for", "call":
		l.stmt(t.content)
		l.report(fnTick)
	case "macro":
		l.stmt(t.content)
		l.report(fnEnter)
	case "endmacro":
		l.report(fnLeave)
		l.stmt(t.content)
	default:
		l.stmt(t.content)
	}
	return nil
}

var endRaw = regexp.MustCompile(`\{%[-+]?\s*endraw\s*[-+]?%\}`)

// raw writes what stands between {% raw %} and {% endraw %} as text.
func (l *lowerer) raw(t tag) error {
	loc := endRaw.FindStringIndex(l.src[l.at:])
	if loc == nil {
		return fmt.Errorf("line %d: raw is not closed", 1+strings.Count(l.src[:t.start], "\n"))
	}
	text := l.src[l.at : l.at+loc[0]]
	end, err := l.tag(l.at + loc[0])
	if err != nil {
		return err
	}
	l.text(l.trimEnd(text, end))
	l.skipSpace(end)
	return nil
}
