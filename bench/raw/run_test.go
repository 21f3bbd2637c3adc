package raw

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"llamero/bench"
	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/engine/llama"
	"llamero/tokenizer"
	"llamero/tokenizer/template"
)

// childMode makes the test binary the process that a Child starts.
const childMode = "LLAMERO_RAW_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "run":
		if err := Main(context.Background(), os.Stdin, os.Stdout, openFake); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "silent":
		os.Exit(0)
	case "hang":
		<-make(chan int)
	}
	os.Exit(m.Run())
}

// bytesTokenizer has a token for each byte.
type bytesTokenizer struct{ vocab *tokenizer.Vocab }

func newBytesTokenizer() bytesTokenizer {
	pieces, attrs := make([]string, 256), make([]tokenizer.Attr, 256)
	for i := range pieces {
		pieces[i] = string([]byte{byte(i)})
	}
	return bytesTokenizer{tokenizer.NewVocab(pieces, attrs, tokenizer.None, tokenizer.None)}
}

func (b bytesTokenizer) Vocab() *tokenizer.Vocab { return b.vocab }

func (b bytesTokenizer) Encode(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	return tokenizer.EncodeWith(func(text string, _, _ bool) ([]tokenizer.Token, error) {
		tokens := make([]tokenizer.Token, len(text))
		for i := range tokens {
			tokens[i] = tokenizer.Token(text[i])
		}
		return tokens, nil
	}, b.vocab, text, opt)
}

func openFake(o llama.Options, source string) (*Opened, error) {
	if o.Model == "none.gguf" {
		return nil, errors.New("none.gguf is not there")
	}
	tok := newBytesTokenizer()
	chat, err := template.ForVocab(source, tok.vocab)
	if err != nil {
		return nil, err
	}
	if o.Layout == 0 {
		o.Layout = engine.Split
	}
	l := enginetest.DefaultLimits(o.Layout)
	l.Slots, l.SlotTokens, l.PoolTokens = o.Slots, o.SlotTokens, o.Slots*o.SlotTokens
	return &Opened{Engine: enginetest.NewFake(l), Tokenizer: tok, Template: chat, Close: func() {}}, nil
}

func newChild(t *testing.T, mode string) *Child {
	t.Helper()
	t.Setenv(childMode, mode)
	return &Child{Argv: []string{os.Args[0]}, Version: "fake", Engine: llama.Options{Slots: 4, SlotTokens: 1024, KVBudget: 1 << 20}}
}

func TestChildRunsWorkloads(t *testing.T) {
	c := newChild(t, "run")
	for _, name := range bench.Names() {
		o := bench.Options{Seed: 5, Clients: 6, Words: 40, Tokens: 16, Turns: 2, Rate: 1000}
		w, err := bench.New(name, o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Run(t.Context(), w)
		if !c.Takes(name) {
			if err == nil || !strings.Contains(err.Error(), "one request a client") {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s := r.Summary()
		tokens := 0
		for _, requests := range w.Clients {
			tokens += requests[0].MaxTokens
		}
		if r.Target != Name || r.Workload != name || s.Requests != len(w.Clients) || s.Errors != 0 || s.Tokens != tokens ||
			s.Wall <= 0 || s.TTFT.P50 <= 0 || s.TTFT.Max > s.Wall || s.ITL.P50 <= 0 {
			t.Errorf("%s: got %+v", name, s)
		}
		// The template's opening and the common system prompt are computed once.
		if name == "shared" && s.Cached < 5*200 || name == "single" && s.Cached > 0 {
			t.Errorf("%s: %d of %d prompt tokens were shared", name, s.Cached, s.Prompt)
		}
		// A byte is a token, and ChatML puts more around the words.
		if m := w.Clients[0][0].Messages; r.Samples[0].Prompt < len(m[len(m)-1].Content)+20 {
			t.Errorf("%s: a prompt of %d tokens for %q", name, r.Samples[0].Prompt, m)
		}
	}
}

func TestChildMeasuresFill(t *testing.T) {
	c := newChild(t, "run")
	spec, err := bench.ParseSweep("fill=0.25,1")
	if err != nil {
		t.Fatal(err)
	}
	sweep, err := c.MeasureFill(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sweep.Curves) != 2 || sweep.Curves[0].Subject != "raw, split layout" || sweep.Curves[1].Subject != "raw, unified layout" {
		t.Fatalf("got %+v", sweep)
	}
	for _, c := range sweep.Curves {
		if len(c.Points) != 2 || c.Points[1].Label != "1" || c.Points[1].Figures[bench.StepFigure].Median <= 0 {
			t.Errorf("%s: %+v", c.Subject, c.Points)
		}
	}
	c.Engine.Layout = engine.Unified
	if sweep, err := c.MeasureFill(t.Context(), spec, nil); err != nil || len(sweep.Curves) != 1 {
		t.Errorf("one layout: %+v, %v", sweep, err)
	}
}

func TestChildFails(t *testing.T) {
	w, err := bench.New("single", bench.Options{Clients: 1, Words: 10, Tokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	c := newChild(t, "run")
	c.Engine.Model = "none.gguf"
	if _, err := c.Run(t.Context(), w); err == nil || !strings.Contains(err.Error(), "none.gguf is not there") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v, want the end of what it printed", err)
	}
	c = newChild(t, "run")
	c.Template = "{{ raise_exception('no users') }}"
	if _, err := c.Run(t.Context(), w); err == nil || !strings.Contains(err.Error(), "no users") {
		t.Errorf("got %v", err)
	}
	if _, err := newChild(t, "silent").Run(t.Context(), w); err == nil || !strings.Contains(err.Error(), "reply") {
		t.Errorf("no reply: got %v", err)
	}
	c.Argv = []string{"/nonexistent"}
	if _, err := c.Run(t.Context(), w); err == nil {
		t.Error("a program that does not exist was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newChild(t, "hang").Run(ctx, w); err == nil {
		t.Error("it outlived its context")
	}
}

func TestMainRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "read what to run",
		"{}":                            "a workload or a fill",
		`{"Workload":{},"Fill":{}}`:     "a workload or a fill",
		`{"Workload":{"Clients":[[]]}}`: "one request a client",
	} {
		var out strings.Builder
		err := Main(t.Context(), strings.NewReader(in), &out, func(llama.Options, string) (*Opened, error) {
			return openFake(llama.Options{Slots: 2, SlotTokens: 512}, "")
		})
		if err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%q: got %v and %q, want %q", in, err, out.String(), want)
		}
	}
}
