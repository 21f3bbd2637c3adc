package raw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"llamero/bench"
	"llamero/engine"
	"llamero/engine/llama"
	"llamero/tokenizer"
	"llamero/tokenizer/template"
)

// Spec is one run: how to open the engine, and either a workload or a Fill. It goes
// to the child process as JSON.
type Spec struct {
	Engine   llama.Options
	Template string // Jinja source; "": the model's own
	Workload *bench.Workload
	Fill     *Fill
}

// Reply is what the child process answers.
type Reply struct {
	Result *bench.Result
	Fill   []FillPoint
}

// maxSpec bounds what a child is told, in bytes.
const maxSpec = 1 << 30

// Opened is an engine with what makes prompts for it.
type Opened struct {
	Engine    engine.Engine
	Tokenizer tokenizer.Tokenizer
	Template  *template.Template
	Close     func()
}

// Open loads a model as a server does, without scheduler.
func Open(o llama.Options, source string) (_ *Opened, err error) {
	tok, err := llama.OpenTokenizer(o.Lib, o.Model)
	if err != nil {
		return nil, err
	}
	if source == "" {
		source = tok.Info().ChatTemplate
	}
	chat, err := template.ForVocab(source, tok.Vocab())
	if err != nil {
		tok.Close()
		return nil, err
	}
	e, err := llama.Open(o)
	if err != nil {
		tok.Close()
		return nil, err
	}
	return &Opened{Engine: e, Tokenizer: tok, Template: chat, Close: func() {
		e.Close()
		tok.Close()
	}}, nil
}

// Main reads a Spec, runs it on what open opens, and writes the Reply.
func Main(ctx context.Context, in io.Reader, out io.Writer, open func(llama.Options, string) (*Opened, error)) error {
	var spec Spec
	if err := json.NewDecoder(io.LimitReader(in, maxSpec)).Decode(&spec); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	if (spec.Workload == nil) == (spec.Fill == nil) {
		return errors.New("a workload or a fill is wanted, and not both")
	}
	o, err := open(spec.Engine, spec.Template)
	if err != nil {
		return err
	}
	defer o.Close()
	var reply Reply
	if err := warm(ctx, o.Engine); err != nil {
		return err
	}
	if spec.Fill != nil {
		reply.Fill, err = spec.Fill.Measure(ctx, o.Engine)
	} else {
		reply.Result, err = o.run(ctx, *spec.Workload)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(reply)
}

// warm runs the widest prompt chunk and a decode pass, for nothing: what is touched
// for the first time is not what is measured.
func warm(ctx context.Context, e engine.Engine) error {
	l := e.Limits()
	if !l.Trims {
		return nil
	}
	idle := func(kind engine.PassKind, n int) engine.Pass {
		return engine.Pass{Kind: kind, Rows: []engine.Row{{Tokens: make([]engine.Token, n), Idle: true}}}
	}
	plan := engine.Plan{Passes: []engine.Pass{idle(engine.PassPrefill, min(l.PassTokens, l.SlotTokens)), idle(engine.PassDecode, 1)}}
	if err := e.Step(ctx, plan, func(engine.Output) {}); err != nil {
		return fmt.Errorf("a first pass: %w", err)
	}
	return nil
}

// run computes a workload's answers.
func (o *Opened) run(ctx context.Context, w bench.Workload) (*bench.Result, error) {
	prompts, err := o.prompts(w)
	if err != nil {
		return nil, err
	}
	answers, err := Drive(ctx, o.Engine, prompts)
	if err != nil {
		return nil, err
	}
	r := &bench.Result{Target: Name, Workload: w.Name}
	for i, a := range answers {
		last := a.Stamps[len(a.Stamps)-1]
		r.Samples = append(r.Samples, bench.Sample{Client: i, Chunks: a.Stamps, Answered: a.Stamps[0], End: last,
			Finish: "length", Prompt: len(prompts[i].Tokens), Cached: a.Shared, Tokens: len(a.Tokens)})
		r.Wall = max(r.Wall, last)
	}
	return r, nil
}

// prompts renders and tokenises a workload's requests as a server does.
func (o *Opened) prompts(w bench.Workload) ([]Prompt, error) {
	limit := o.Engine.Limits().SlotTokens
	prompts := make([]Prompt, 0, len(w.Clients))
	for i, requests := range w.Clients {
		if len(requests) != 1 || requests[0].Follows || requests[0].At > 0 {
			return nil, fmt.Errorf("workload %s: the engine alone takes one request a client, at once", w.Name)
		}
		conv := template.Conversation{AddGenerationPrompt: true}
		for _, m := range requests[0].Messages {
			conv.Messages = append(conv.Messages, template.Message{Role: m.Role, Content: m.Content})
		}
		segs, err := o.Template.Render(conv)
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		tokens, err := tokenizer.EncodeSegments(o.Tokenizer, segs, tokenizer.EncodeOptions{AddSpecial: true, MaxTokens: limit})
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		prompts = append(prompts, Prompt{Tokens: tokens, Generate: requests[0].MaxTokens})
	}
	return prompts, nil
}
