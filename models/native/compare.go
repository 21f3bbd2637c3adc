package native

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"llamero/engine"
	"llamero/engine/llama"
	"llamero/tokenizer"
)

const (
	// window is how many tokens are computed at once. Of each window the second half
	// is scored, so that every token that counts has at least that much before it.
	window = 512
	scored = window / 2
	// maxText bounds a text, in tokens.
	maxText = 1 << 17
)

// Comparison is what a model makes of a text, beside what its source does. Loss is
// the mean negative log-probability of the text's tokens, in nats; its exponential
// is the perplexity.
type Comparison struct {
	Tokens     int     // of the text
	Scored     int     // of them, those that count
	SourceLoss float64 // the source's
	Loss       float64
	LossError  float64 // standard error of Loss - SourceLoss, over the tokens
	KL         float64 // mean divergence from the source's distribution, in nats
	KL99       float64 // what 99 of 100 tokens stay below
	SameTop    float64 // share of tokens where both expect the same most
}

type compareTask struct {
	Source, Model llama.EvaluatorOptions
	Text          string
}

// Compare computes a text on the source and on the model, side by side.
func (w Worker) Compare(ctx context.Context, source, model, text string, progress func(done, total int)) (Comparison, error) {
	m, err := w.do(ctx, model, task{Compare: &compareTask{Source: w.options(source), Model: w.options(model), Text: text}}, progress)
	if err != nil {
		return Comparison{}, err
	}
	if m.Comparison == nil {
		return Comparison{}, fmt.Errorf("comparing %s: no figures came", model)
	}
	return *m.Comparison, nil
}

func (t *compareTask) do(progress func(done, total int)) (*Comparison, error) {
	tokens, bos, err := t.encode()
	if err != nil {
		return nil, err
	}
	for _, o := range []*llama.EvaluatorOptions{&t.Source, &t.Model} {
		o.Tokens, o.Rows = window, scored+1
	}
	source, err := llama.OpenEvaluator(t.Source)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	model, err := llama.OpenEvaluator(t.Model)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	if source.Vocab() != model.Vocab() {
		return nil, fmt.Errorf("%s knows %d tokens and %s knows %d: they are different models", t.Source.Model, source.Vocab(), t.Model.Model, model.Vocab())
	}
	var all []position
	windows := len(tokens) / window
	for i := range windows {
		text := tokens[i*window : (i+1)*window : (i+1)*window]
		if bos != tokenizer.None {
			text[0] = bos // what the model expects at a text's beginning
		}
		// The last row has nothing after it that it could be held against.
		p, err := source.Logits(text, scored-1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Source.Model, err)
		}
		q, err := model.Logits(text, scored-1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Model.Model, err)
		}
		all = append(all, compareRows(p[:len(p)-1], q[:len(q)-1], text[scored:])...)
		progress(i+1, windows)
	}
	c := summarise(all)
	c.Tokens = len(tokens)
	if x := c.Loss + c.SourceLoss + c.KL; math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, fmt.Errorf("%s: beside %s it computes what are no numbers", t.Model.Model, t.Source.Model)
	}
	return &c, nil
}

// encode reads the text with the source's vocabulary. bos is what a window must
// begin with, None where the model wants nothing there.
func (t *compareTask) encode() (tokens []engine.Token, bos engine.Token, err error) {
	tok, err := llama.OpenTokenizer(t.Source.Lib, t.Source.Model)
	if err != nil {
		return nil, 0, err
	}
	defer tok.Close()
	if tokens, err = tok.Encode(t.Text, tokenizer.EncodeOptions{AddSpecial: true, MaxTokens: maxText}); err != nil {
		return nil, 0, fmt.Errorf("the text: %w", err)
	}
	if len(tokens) < window {
		return nil, 0, fmt.Errorf("the text has %d tokens; %d are needed at least", len(tokens), window)
	}
	if bos = tok.Vocab().BOS(); tokens[0] != bos {
		bos = tokenizer.None
	}
	return tokens, bos, nil
}

// compareRows compares rows of logits on all processors. next[i] is the token that
// follows row i.
func compareRows(p, q [][]float32, next []engine.Token) []position {
	out := make([]position, len(p))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(p))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(p); i += workers {
				out[i] = compare(p[i], q[i], next[i])
			}
		})
	}
	wg.Wait()
	return out
}
