package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"llamero/tokenizer"
)

// TestParity compares with transformers' rendering, byte for byte. It needs a
// Python environment made from testdata/requirements.txt and named by
// LLAMERO_TEST_VENV; `make test` makes it. The templates are the model's
// (LLAMERO_MODEL, SmolLM2), those of the jinja module's tests and unsloth's.
func TestParity(t *testing.T) {
	venv, model := os.Getenv("LLAMERO_TEST_VENV"), os.Getenv("LLAMERO_MODEL")
	if venv == "" || model == "" {
		const why = "LLAMERO_TEST_VENV (a Python environment made from testdata/requirements.txt) and LLAMERO_MODEL (a GGUF) are not both set"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	now := time.Date(2026, 3, 7, 9, 5, 2, 0, time.Local)
	conversations := parityConversations()
	families := map[string]bool{"gguf": false, "gemma3": false, "llama3": false, "phi4": false, "mistral": false, "Qwen3-8B": false, "gpt-oss": false}
	rendered, refused := 0, 0
	for name, ref := range reference(t, venv, model, now, conversations) {
		for f := range families {
			families[f] = families[f] || strings.Contains(name, f)
		}
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(ref.Source, ref.BOS, ref.EOS)
			if err != nil {
				t.Fatal(err)
			}
			tmpl.Now = func() time.Time { return now }
			// Spellings that no conversation here has: marks must not matter.
			tmpl.Controls = tokenizer.NewSpellings([]string{"<|spelled|>"})
			for i, want := range ref.Results {
				conv := conversations[i]
				if why := knownDifferences[name+"#"+conv.name]; why != "" {
					t.Logf("%s: not compared: %s", conv.name, why)
					continue
				}
				segs, err := tmpl.Render(conv.Conversation)
				var req *RequestError
				switch {
				case want.Error == "" && err != nil:
					t.Errorf("%s: %v; transformers renders %q", conv.name, err, want.Text)
				case want.Error == "":
					if got := tokenizer.JoinSegments(segs); got != want.Text {
						t.Errorf("%s:\n got %q\nwant %q", conv.name, got, want.Text)
					}
					rendered++
				case want.Refused && !errors.As(err, &req):
					t.Errorf("%s: %q, %v; transformers refuses: %s", conv.name, tokenizer.JoinSegments(segs), err, want.Error)
				case want.Refused && req.Msg != want.Error:
					t.Errorf("%s: refused with %q, not %q", conv.name, req.Msg, want.Error)
				case want.Refused:
					refused++
				default:
					// The template itself fails, in Python; what it does here says nothing.
				}
			}
		})
	}
	for f, seen := range families {
		if !seen {
			t.Errorf("no template of %s was compared", f)
		}
	}
	if rendered == 0 || refused == 0 {
		t.Errorf("%d renderings and %d refusals agreed; there must be both", rendered, refused)
	}
	t.Logf("%d renderings and %d refusals agree", rendered, refused)
}

// knownDifferences are the renderings in which the jinja library differs from
// Jinja2, and why, by template and conversation.
var knownDifferences = map[string]string{
	"unsloth/llama31#tools": "tojson(indent=4) sorts keys and escapes <, > and &",
}

type referenceResult struct {
	Source, BOS, EOS string
	Results          []struct {
		Text, Error string
		Refused     bool
	}
}

func reference(t *testing.T, venv, model string, now time.Time, convs []parityConversation) map[string]referenceResult {
	t.Helper()
	type conversation struct {
		Messages            []plainDict `json:"messages"`
		Tools               []any       `json:"tools"`
		AddGenerationPrompt bool        `json:"add_generation_prompt"`
		Extra               plainDict   `json:"extra"`
	}
	job := struct {
		GGUF          string            `json:"gguf"`
		Templates     map[string]string `json:"templates"`
		Conversations []conversation    `json:"conversations"`
		Now           string            `json:"now"`
	}{GGUF: model, Templates: moduleTemplates(t), Now: now.Format("2006-01-02T15:04:05")}
	for _, c := range convs {
		out := conversation{Tools: nil, AddGenerationPrompt: c.AddGenerationPrompt, Extra: plainDict(c.Extra)}
		for _, m := range c.Messages {
			d := plainDict{{"role", m.Role}, {"content", m.Content}}
			if m.Name != "" {
				d = append(d, Field{"name", m.Name})
			}
			out.Messages = append(out.Messages, append(d, m.Extra...))
		}
		for _, tool := range c.Tools {
			out.Tools = append(out.Tools, plain(tool))
		}
		job.Conversations = append(job.Conversations, out)
	}
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(venv, "bin", "python")
	if runtime.GOOS == "windows" {
		python = filepath.Join(venv, "Scripts", "python.exe")
	}
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "reference.py"))
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("reference.py: %v\n%s", err, stderr.String())
	}
	var out map[string]referenceResult
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// moduleTemplates are the templates that the jinja module tests itself with; the
// module is there, its content checked against go.sum, wherever this test builds.
func moduleTemplates(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/ardanlabs/jinja").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "templates", "*.jinja"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the jinja module has no templates: %v", err)
	}
	out := make(map[string]string)
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out["jinja/"+strings.TrimSuffix(filepath.Base(f), ".jinja")] = string(src)
	}
	return out
}

// plainDict marshals to a JSON object in order.
type plainDict Dict

func (d plainDict) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range d {
		if i > 0 {
			b.WriteByte(',')
		}
		k, _ := json.Marshal(f.Key)
		v, err := json.Marshal(plain(f.Value))
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func plain(x any) any {
	switch x := x.(type) {
	case Dict:
		return plainDict(x)
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = plain(e)
		}
		return out
	}
	return x
}

type parityConversation struct {
	name string
	Conversation
}

func parityConversations() []parityConversation {
	user := func(s string) Message { return Message{Role: "user", Content: s} }
	assistant := func(s string) Message { return Message{Role: "assistant", Content: s} }
	system := func(s string) Message { return Message{Role: "system", Content: s} }
	chat := func(gen bool, m ...Message) Conversation {
		return Conversation{Messages: m, AddGenerationPrompt: gen}
	}
	with := func(c Conversation, extra ...Field) Conversation {
		c.Extra = extra
		return c
	}
	const odd = "  \n quotes ' \" \\ braces {{ x }} {% y %} <b>&amp;</b> ünï 🦙\t\u00a0\n\n"
	weather := Dict{{"type", "function"}, {"function", Dict{
		{"name", "weather"}, {"description", "Tells the weather & <more>."},
		{"parameters", Dict{{"type", "object"}, {"properties", Dict{
			{"place", Dict{{"type", "string"}, {"description", "a town"}}},
			{"days", Dict{{"type", "integer"}}}}}, {"required", []any{"place"}}}}}}}
	tools := chat(true, user("Rain in Ulm?"))
	tools.Tools = []any{weather}
	return []parityConversation{
		{"user", chat(true, user("Hello"))},
		{"user, no prompt", chat(false, user("Hello"))},
		{"system", chat(true, system("Be brief."), user("Hello"))},
		{"turns", chat(true, system("Be brief."), user("One"), assistant("Two"), user("Three"))},
		{"turns without system", chat(true, user("One"), assistant("Two"), user("Three"))},
		{"assistant last", chat(false, user("One"), assistant("Two"))},
		{"odd text", chat(true, system(odd), user(odd), assistant(odd), user(odd))},
		{"empty", chat(true, user(""), assistant(""), user(""))},
		{"thought", chat(true, user("One"), assistant("<think>\nhm\n</think>\n\nTwo"), user("Three"))},
		{"no thinking", with(chat(true, user("Hello")), Field{"enable_thinking", false})},
		{"two users", chat(true, user("One"), user("Two"))},
		{"assistant first", chat(true, assistant("One"), user("Two"))},
		{"late system", chat(true, user("One"), assistant("Two"), system("Be brief."), user("Three"))},
		{"odd role", chat(true, user("One"), Message{Role: "narrator", Content: "Two"})},
		{"name", chat(true, Message{Role: "user", Name: "ann", Content: "Hello"})},
		{"no messages", chat(true)},
		{"tools", tools},
	}
}
