package server

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/big"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"llamero/scheduler"
	"llamero/server/openai"
)

// schema is as much of a JSON Schema as requests are described by.
type schema struct {
	Type       any // a name or a list of names
	Properties map[string]schema
	Items      *schema
	AnyOf      []schema
	Enum       []any
	Const      any
	Minimum    *json.Number
	Maximum    *json.Number
	MaxLength  int
	Examples   []json.RawMessage
}

func (s schema) is(name string) bool {
	if l, ok := s.Type.([]any); ok {
		return slices.Contains(l, any(name))
	}
	return s.Type == name
}

// document is what the tests read of openapi.json.
type document struct {
	Paths      map[string]map[string]struct{ OperationID string }
	Components struct{ Schemas map[string]schema }
}

func readOpenAPI(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openAPIDocument, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The document describes the routes that there are, and no others.
func TestOpenAPIRoutes(t *testing.T) {
	ts := start(t, newFake(silent), func(o *Options) { o.Metrics = http.NotFoundHandler() })
	var have, described []string
	for _, r := range ts.app.GetRoutes(true) {
		if r.Method != "HEAD" { // comes with GET
			have = append(have, r.Method+" "+strings.ReplaceAll(r.Path, "*", "{model}"))
		}
	}
	for path, methods := range readOpenAPI(t).Paths {
		for method, operation := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
			if operation.OperationID == "" {
				t.Errorf("%s %s has no name", method, path)
			}
		}
	}
	slices.Sort(have)
	slices.Sort(described)
	if !slices.Equal(have, described) {
		t.Errorf("routes\n%s\ndescribed\n%s", strings.Join(have, "\n"), strings.Join(described, "\n"))
	}
	status, header, body := ts.do(t, "GET", pathOpenAPI, "")
	if status != 200 || header.Get("Content-Type") != typeJSON || body != string(openAPIDocument) {
		t.Errorf("%d %s", status, header.Get("Content-Type"))
	}
}

// The examples are answered.
func TestOpenAPIExamples(t *testing.T) {
	ts := start(t, newFake(answer(scheduler.FinishStop, "a")), nil)
	schemas := readOpenAPI(t).Components.Schemas
	for path, name := range map[string]string{pathChat: "ChatRequest", pathText: "TextRequest", pathTokenize: "TokenizeRequest",
		pathDetokenize: "DetokenizeRequest", pathTemplate: "TemplateRequest"} {
		if len(schemas[name].Examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, example := range schemas[name].Examples {
			if status, _, body := ts.post(t, path, string(example)); status != 200 {
				t.Errorf("%s %s: %d %s", path, example, status, body)
			}
		}
	}
}

// wrong are values of which every schema allows few.
var wrong = []string{`"x"`, `"none"`, `"text"`, `7`, `-7`, `0.5`, `1e400`, `true`, `false`, `[]`, `[1]`, `["x"]`, `[[]]`, `[[0.5]]`, `{}`, `{"x":1}`}

// goodBad are values that a schema allows and values that it does not.
func (s schema) goodBad() (good, bad []string) {
	number := func(n *json.Number, by int64) string {
		if i, ok := new(big.Int).SetString(n.String(), 10); ok {
			return i.Add(i, big.NewInt(by)).String()
		}
		f, _ := n.Float64()
		return strconv.FormatFloat(f+float64(by), 'g', -1, 64)
	}
	switch {
	case s.is("integer"), s.is("number"):
		good = []string{number(s.Minimum, 0), number(s.Maximum, 0)}
		bad = []string{number(s.Minimum, -1), number(s.Maximum, 1), `"x"`, `true`, `[]`, `{}`, `1e400`}
		if s.is("integer") {
			bad = append(bad, `0.5`)
		}
	case s.is("boolean"):
		good, bad = []string{`true`, `false`}, []string{`0`, `"true"`, `[]`, `{}`}
	case s.is("string"):
		bad = []string{`7`, `true`, `[]`, `{}`}
		good = []string{`""`}
		if s.MaxLength > 0 {
			good = append(good, strconv.Quote(strings.Repeat("x", s.MaxLength)))
			bad = append(bad, strconv.Quote(strings.Repeat("x", s.MaxLength+1)))
		}
	case s.is("array"):
		good, bad = []string{`[]`}, []string{`"x"`, `7`, `true`, `{}`}
	case s.is("object"):
		bad = []string{`"x"`, `7`, `true`, `[]`}
		if len(s.Properties) == 0 {
			good = []string{`{}`}
		}
	case s.Enum != nil:
		for _, v := range s.Enum {
			b, _ := json.Marshal(v) // what came from JSON
			good = append(good, string(b))
		}
		for _, v := range wrong {
			if !slices.Contains(good, v) {
				bad = append(bad, v)
			}
		}
	case s.is("null"):
		bad = wrong
	}
	if s.is("null") {
		good = append(good, `null`)
	}
	return good, bad
}

// What the document says of a request's members is what the decoders hold to: bounds
// and what is just beyond them, types and what is of another.
func TestOpenAPIMembers(t *testing.T) {
	schemas := readOpenAPI(t).Components.Schemas
	for _, r := range []struct {
		name   string
		base   map[string]string // so that members which need others are allowed
		decode func([]byte) *openai.Error
		except []string // members that the schema cannot say all of
	}{
		{"ChatRequest", map[string]string{"messages": `[{"role":"user","content":"x"}]`, "logprobs": `true`, "stream": `true`},
			func(b []byte) *openai.Error { _, err := openai.DecodeChat(b, openai.DefaultLimits()); return err },
			[]string{"messages"}},
		{"TextRequest", map[string]string{"prompt": `"x"`, "echo": `true`, "stream": `true`},
			func(b []byte) *openai.Error { _, err := openai.DecodeCompletion(b, openai.DefaultLimits()); return err },
			[]string{"prompt", "best_of"}},
		{"TokenizeRequest", map[string]string{"content": `"x"`},
			func(b []byte) *openai.Error { _, err := openai.DecodeTokenize(b, openai.DefaultLimits()); return err }, nil},
		{"DetokenizeRequest", map[string]string{"tokens": `[1]`},
			func(b []byte) *openai.Error { _, err := openai.DecodeDetokenize(b, openai.DefaultLimits()); return err }, nil},
		{"TemplateRequest", map[string]string{"messages": `[{"role":"user","content":"x"}]`},
			func(b []byte) *openai.Error { _, err := openai.DecodeTemplate(b, openai.DefaultLimits()); return err }, []string{"messages"}},
	} {
		for name, s := range schemas[r.name].Properties {
			good, bad := s.goodBad()
			for _, v := range good {
				if err := r.decode(object(r.base, name, v)); err != nil && !slices.Contains(r.except, name) {
					t.Errorf("%s: %s may be %.60s, but: %v", r.name, name, v, err)
				}
			}
			for _, v := range bad {
				if err := r.decode(object(r.base, name, v)); err == nil || err.Status != 400 || !strings.HasPrefix(err.Param, name) {
					t.Errorf("%s: %s may not be %.60s, but: %v", r.name, name, v, err)
				}
			}
		}
	}
}

// object is a JSON object with a member added or replaced.
func object(base map[string]string, name, value string) []byte {
	all := maps.Clone(base)
	all[name] = value
	var members []string
	for k, v := range all {
		members = append(members, fmt.Sprintf("%q:%s", k, v))
	}
	return []byte("{" + strings.Join(members, ",") + "}")
}

// Every member that a decoder reads is in the document: what the decoders' source
// names, and no member is refused or bounded in secret.
func TestOpenAPINamesAll(t *testing.T) {
	described := map[string]bool{}
	var walk func(s schema)
	walk = func(s schema) {
		for name, p := range s.Properties {
			described[name] = true
			walk(p)
		}
		for _, x := range s.AnyOf {
			walk(x)
		}
		if s.Items != nil {
			walk(*s.Items)
		}
	}
	var raw struct {
		Components struct {
			Schemas map[string]struct{ OneOf []schema }
		}
	}
	if err := json.Unmarshal(openAPIDocument, &raw); err != nil {
		t.Fatal(err)
	}
	for name, s := range readOpenAPI(t).Components.Schemas {
		walk(s)
		for _, x := range raw.Components.Schemas[name].OneOf {
			walk(x)
		}
	}
	files, err := filepath.Glob("openai/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	readers := []string{"get", "has", "str", "boolean", "float", "integer", "array", "object", "maxTokens"}
	member := regexp.MustCompile(`^"[a-z_]+"$`)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			var named []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(readers, s.Sel.Name) {
					named = n.Args
				}
			case *ast.CompositeLit:
				if a, ok := n.Type.(*ast.ArrayType); ok {
					if of, ok := a.Elt.(*ast.Ident); ok && of.Name == "string" {
						named = n.Elts
					}
				}
			}
			for _, x := range named {
				lit, ok := x.(*ast.BasicLit)
				if !ok || !member.MatchString(lit.Value) {
					continue
				}
				found++
				if name := strings.Trim(lit.Value, `"`); !described[name] {
					t.Errorf("%s reads %q, which openapi.json does not have", file, name)
				}
			}
			return true
		})
	}
	if found < 40 {
		t.Errorf("only %d members are read: the sources are not understood", found)
	}
}
