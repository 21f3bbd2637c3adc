package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// fields reads one JSON object's members by name. The first error sticks and
// makes later reads no-ops, so a list of reads needs one check at its end.
type fields struct {
	path    string // "" at the top, "messages[2]." inside
	members map[string]json.RawMessage
	err     **Error
}

// decode reads a request body's outermost object. Duplicate members behave as in
// encoding/json: the last one counts.
func decode(body []byte, maxDepth int) (fields, *Error) {
	if err := checkDepth(body, maxDepth); err != nil {
		return fields{}, err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fields{}, Invalid("", "the body is empty; a JSON object was expected")
	}
	if !json.Valid(body) {
		return fields{}, syntaxError(body)
	}
	if k := kindOf(body); k != "an object" {
		return fields{}, Invalid("", "the body is %s; a JSON object was expected", k)
	}
	f := fields{err: new(*Error)}
	if err := json.Unmarshal(body, &f.members); err != nil {
		return fields{}, Invalid("", "the body is not valid JSON: %v", err)
	}
	return f, nil
}

func syntaxError(body []byte) *Error {
	var v json.RawMessage
	err := json.Unmarshal(body, &v)
	var syn *json.SyntaxError
	if errors.As(err, &syn) {
		return Invalid("", "the body is not valid JSON: %v (at byte %d)", syn, syn.Offset)
	}
	return Invalid("", "the body is not valid JSON")
}

// checkDepth bounds nesting before any recursive code sees the body. It need not
// know whether the JSON is valid: brackets outside strings are all that nests.
func checkDepth(body []byte, max int) *Error {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString:
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > max {
				return Invalid("", "the body is nested more than %d levels deep", max)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// kindOf names a valid JSON value's kind for an error message.
func kindOf(raw []byte) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

func (f fields) fail(err *Error) {
	if *f.err == nil {
		*f.err = err
	}
}

func (f fields) failed() *Error { return *f.err }

func (f fields) wrong(name, want string, raw []byte) {
	f.fail(Invalid(f.path+name, "%s must be %s; got %s", f.path+name, want, kindOf(raw)))
}

// get returns a member, nil where it is absent, null, or an error came before.
func (f fields) get(name string) json.RawMessage {
	if *f.err != nil {
		return nil
	}
	raw := f.members[name]
	if string(raw) == "null" { // RawMessage holds no surrounding space
		return nil
	}
	return raw
}

func (f fields) has(name string) bool { return f.get(name) != nil }

func (f fields) str(name string, maxLen int) (string, bool) {
	raw := f.get(name)
	if raw == nil {
		return "", false
	}
	s, ok := unquote(raw)
	if !ok {
		f.wrong(name, "a string", raw)
		return "", false
	}
	if len(s) > maxLen {
		f.fail(Invalid(f.path+name, "%s is %d bytes long; at most %d are taken", f.path+name, len(s), maxLen))
		return "", false
	}
	return s, true
}

func (f fields) boolean(name string) (v, ok bool) {
	switch raw := f.get(name); string(raw) {
	case "":
		return false, false
	case "true":
		return true, true
	case "false":
		return false, true
	default:
		f.wrong(name, "a boolean", raw)
		return false, false
	}
}

// float reads a number in [lo, hi].
func (f fields) float(name string, lo, hi float64) (float64, bool) {
	raw := f.get(name)
	if raw == nil {
		return 0, false
	}
	if kindOf(raw) != "a number" {
		f.wrong(name, "a number", raw)
		return 0, false
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || v < lo || v > hi {
		f.fail(Invalid(f.path+name, "%s must be between %v and %v; got %s", f.path+name, lo, hi, clip(string(raw), 32)))
		return 0, false
	}
	return v, true
}

// integer reads a whole number in [lo, hi]; 1.0 and 1e0 are whole.
func (f fields) integer(name string, lo, hi int64) (int64, bool) {
	raw := f.get(name)
	if raw == nil {
		return 0, false
	}
	v, err := parseInt(raw)
	switch {
	case err == errKind:
		f.wrong(name, "an integer", raw)
		return 0, false
	case err == errFraction:
		f.fail(Invalid(f.path+name, "%s must be an integer; got %s", f.path+name, clip(string(raw), 32)))
		return 0, false
	case err != nil || v < lo || v > hi:
		f.fail(Invalid(f.path+name, "%s must be %s; got %s", f.path+name, between(lo, hi), clip(string(raw), 32)))
		return 0, false
	}
	return v, true
}

func between(lo, hi int64) string {
	switch {
	case lo == math.MinInt64 && hi == math.MaxInt64:
		return "a 64-bit integer"
	case hi >= math.MaxInt32:
		return fmt.Sprintf("at least %d", lo)
	}
	return fmt.Sprintf("between %d and %d", lo, hi)
}

// array returns a member's elements.
func (f fields) array(name string, maxLen int) ([]json.RawMessage, bool) {
	raw := f.get(name)
	if raw == nil {
		return nil, false
	}
	if raw[0] != '[' {
		f.wrong(name, "an array", raw)
		return nil, false
	}
	var elems []json.RawMessage
	if err := json.Unmarshal(raw, &elems); err != nil {
		f.fail(Invalid(f.path+name, "%s is not valid JSON", f.path+name))
		return nil, false
	}
	if len(elems) > maxLen {
		f.fail(Invalid(f.path+name, "%s has %d entries; at most %d are taken", f.path+name, len(elems), maxLen))
		return nil, false
	}
	return elems, true
}

// object returns a member as fields of its own that share the sticky error.
func (f fields) object(name string) (fields, bool) {
	raw := f.get(name)
	if raw == nil {
		return fields{}, false
	}
	return f.sub(name, raw)
}

// sub reads a value found at path name as an object.
func (f fields) sub(name string, raw json.RawMessage) (fields, bool) {
	sub := fields{path: f.path + name + ".", err: f.err}
	if kindOf(raw) != "an object" {
		f.wrong(name, "an object", raw)
		return fields{}, false
	}
	if err := json.Unmarshal(raw, &sub.members); err != nil {
		f.fail(Invalid(f.path+name, "%s is not valid JSON", f.path+name))
		return fields{}, false
	}
	return sub, true
}

var (
	errKind     = errors.New("not a number")
	errFraction = errors.New("not whole")
	errRange    = errors.New("out of range")
)

// parseInt reads a whole number, however it is spelled.
func parseInt(raw json.RawMessage) (int64, error) {
	if kindOf(raw) != "a number" {
		return 0, errKind
	}
	s := string(raw)
	if !strings.ContainsAny(s, ".eE") {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, errRange
		}
		return v, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(v) > 1<<53 { // beyond which float64 skips integers
		return 0, errRange
	}
	if v != math.Trunc(v) {
		return 0, errFraction
	}
	return int64(v), nil
}

func unquote(raw json.RawMessage) (string, bool) {
	if kindOf(raw) != "a string" {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}
