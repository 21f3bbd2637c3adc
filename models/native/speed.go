package native

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"llamero/bench/raw"
	"llamero/engine"
	"llamero/engine/llama"
)

// What is measured: a prompt of one pass, the answer of one stream after it, and
// those of several streams together.
const (
	speedPrompt = 512
	speedAnswer = 64
	speedBatch  = 8
	batchPrompt = 64
	speedLimit  = 10 * time.Minute
)

// Speed is what a model computes in a second, in tokens.
type Speed struct {
	Prefill float64 // of a prompt of 512 tokens
	Decode  float64 // of one answer
	Batch   float64 // of 8 answers together
}

type speedTask struct {
	Engine llama.Options
	Seed   uint64
}

// Speed measures a model on an engine with the settings that matter for it.
func (w Worker) Speed(ctx context.Context, model string, seed uint64) (Speed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, speedLimit, fmt.Errorf("measuring %s took longer than %s", model, speedLimit))
	defer cancel()
	o := llama.Options{Lib: w.Lib, Model: model, Layout: engine.Split, Slots: speedBatch,
		SlotTokens: speedPrompt + speedAnswer + 1, KVBudget: 64 << 30,
		GPULayers: w.GPULayers, Threads: w.Threads, PassTokens: speedPrompt}
	m, err := w.do(ctx, model, task{Speed: &speedTask{Engine: o, Seed: seed}}, nil)
	if err != nil {
		return Speed{}, fmt.Errorf("%s: %w", model, err)
	}
	if m.Speed == nil {
		return Speed{}, fmt.Errorf("measuring %s: no figures came", model)
	}
	return *m.Speed, nil
}

func (t *speedTask) do() (*Speed, error) {
	e, err := llama.Open(t.Engine)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	rng := rand.New(rand.NewPCG(t.Seed, 0))
	prompt := func(tokens, generate int) raw.Prompt {
		p := raw.Prompt{Generate: generate}
		for range tokens {
			p.Tokens = append(p.Tokens, engine.Token(rng.IntN(e.Limits().Vocab)))
		}
		return p
	}
	// What is touched for the first time is not what is measured.
	if _, err := drive(e, []raw.Prompt{prompt(speedPrompt, 2)}); err != nil {
		return nil, err
	}
	one, err := drive(e, []raw.Prompt{prompt(speedPrompt, speedAnswer)})
	if err != nil {
		return nil, err
	}
	many := make([]raw.Prompt, speedBatch)
	for i := range many {
		many[i] = prompt(batchPrompt, speedAnswer)
	}
	batch, err := drive(e, many)
	if err != nil {
		return nil, err
	}
	s := &Speed{Prefill: speedPrompt / one[0].Stamps[0].Seconds(), Decode: rate(one), Batch: rate(batch)}
	return s, nil
}

func drive(e engine.Engine, prompts []raw.Prompt) ([]raw.Answer, error) {
	return raw.Drive(context.Background(), e, prompts)
}

// rate is the tokens a second after each answer's first, while all are decoded.
func rate(answers []raw.Answer) float64 {
	var from, to time.Duration
	tokens := 0
	for _, a := range answers {
		from = max(from, a.Stamps[0])
		to = max(to, a.Stamps[len(a.Stamps)-1])
	}
	for _, a := range answers {
		for _, at := range a.Stamps {
			if at > from {
				tokens++
			}
		}
	}
	return float64(tokens) / (to - from).Seconds()
}
