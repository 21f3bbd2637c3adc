package llama

import (
	"fmt"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// Evaluator computes what a model thinks of a text: the logits behind each of its
// tokens. It is for measuring a model; serving is Engine's.
type Evaluator struct {
	model   llama.Model
	threads threads
	sequences
	limit EvaluatorOptions
	rows  [][]float32
}

// EvaluatorOptions say which model to evaluate. Zero values are Options' defaults.
type EvaluatorOptions struct {
	Lib       string
	Model     string
	GPULayers int
	Threads   int
	Tokens    int // the longest text, which is computed in one pass; 1 to 4096
	Rows      int // the most rows of logits of a text; 0: Tokens
}

const maxEvaluated = 4096

// OpenEvaluator loads a model and makes room for a text.
func OpenEvaluator(o EvaluatorOptions) (*Evaluator, error) {
	if o.Rows == 0 {
		o.Rows = o.Tokens
	}
	if o.Tokens < 1 || o.Tokens > maxEvaluated || o.Rows < 1 || o.Rows > o.Tokens || o.Threads < 0 {
		return nil, fmt.Errorf("evaluate: %d tokens (1 to %d), of them %d wanted, on %d threads", o.Tokens, maxEvaluated, o.Rows, o.Threads)
	}
	if err := load(o.Lib); err != nil {
		return nil, err
	}
	params := llama.ModelDefaultParams()
	params.NGpuLayers = int32(o.GPULayers)
	if o.GPULayers < 0 {
		params.NGpuLayers = 999
	}
	model, err := loadModel(o.Model, params)
	if err != nil {
		return nil, err
	}
	e := &Evaluator{model: model, limit: o}
	if err := e.open(o); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Evaluator) open(o EvaluatorOptions) error {
	if !llama.ModelHasDecoder(e.model) || llama.ModelHasEncoder(e.model) || llama.ModelIsDiffusion(e.model) {
		return fmt.Errorf("model: %s (%s) does not generate text token by token; it cannot be measured", o.Model, llama.ModelDesc(e.model))
	}
	var err error
	if e.threads, err = newThreads(o.Threads); err != nil {
		return err
	}
	p := contextParams(1, o.Tokens, o.Rows, e.threads.n)
	p.NCtx = uint32(pad(o.Tokens, ctxPad))
	if err := e.init(e.model, p, e.threads); err != nil {
		return fmt.Errorf("evaluate: no context of %d tokens: %w", o.Tokens, err)
	}
	return nil
}

// Vocab is the number of tokens that the model knows, and of logits in a row.
func (e *Evaluator) Vocab() int { return e.vocab }

// Logits computes a text from its beginning and returns a row of logits for each
// token from the first-th on. The rows are good until the next call.
func (e *Evaluator) Logits(tokens []engine.Token, first int) ([][]float32, error) {
	if rows := len(tokens) - first; len(tokens) > e.limit.Tokens || first < 0 || rows < 1 || rows > e.limit.Rows {
		return nil, fmt.Errorf("evaluate: %d tokens from %d on; 1 to %d can be, and %d rows of them", len(tokens), first, e.limit.Tokens, e.limit.Rows)
	}
	if err := llama.MemoryClear(e.mem, false); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	e.batch.Clear()
	for i, t := range tokens {
		if t < 0 || int(t) >= e.vocab {
			return nil, fmt.Errorf("evaluate: token %d is not one of the model's %d", t, e.vocab)
		}
		if err := e.add(0, i, t, i >= first); err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
	}
	logs.takeError()
	if code, err := e.decode(); err != nil || code != 0 {
		return nil, fmt.Errorf("evaluate: decode failed with code %d: %s", code, logs.takeError())
	}
	e.rows = e.rows[:0]
	for i := first; i < len(tokens); i++ {
		row, err := e.row(int32(i))
		if err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
		e.rows = append(e.rows, row)
	}
	return e.rows, nil
}

// Close frees the model and its memory.
func (e *Evaluator) Close() {
	e.free()
	e.threads.end()
	if e.model != 0 {
		llama.ModelFree(e.model)
		e.model = 0
	}
}
