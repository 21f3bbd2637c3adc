package llama

import (
	"fmt"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
)

// Options say which model to run and how. Zero values are defaults.
type Options struct {
	Lib        string        // folder of the shared libraries
	Model      string        // GGUF file
	Layout     engine.Layout // 0: split if Slots × SlotTokens fits KVBudget, else unified
	Slots      int           // requests that run at once; 0: 32; at most 250
	SlotTokens int           // tokens a slot; 0: what the model was trained for, as far as KVBudget goes
	KVBudget   int64         // bytes of KV cache; 0: 2 GiB
	GPULayers  int           // layers on the accelerator; negative: all
	TypeK      string        // "f16" unless said otherwise
	TypeV      string
	Threads    int // 0: GOMAXPROCS
	PassTokens int // tokens a pass; 0: 512

	Draft string // GGUF file of a draft model; "": none

	Slab       []byte // memory for host pages; nil: none
	PageTokens int    // tokens of a host page; 0: 16, or fewer where one would be larger than 2 MiB
}

const (
	defaultSlots      = 32
	maxSlots          = 250 // of llama.cpp's 256 sequences
	defaultKVBudget   = 2 << 30
	defaultPassTokens = 512
	defaultPageTokens = 16
	maxPageBytes      = 2 << 20
	// widthStep is what the CPU kernels work in: a pass is rounded up to a multiple.
	widthStep = 4
	// minSplitTokens is the least worth having as a slot of its own.
	minSplitTokens = 2048
	// ctxPad is what llama.cpp rounds a stream's context up to.
	ctxPad = 256
)

// Engine runs a model. See engine.Engine for who may call what.
type Engine struct {
	info       Info
	tokenBytes int // KV bytes of one token, the draft model's included
	limits     engine.Limits
	ledger     *engine.Ledger
	pool       *engine.Pool

	model   llama.Model
	threads threads
	sequences
	draft *draft // nil: there is none

	slab    []byte
	unpaged error // why there are no pages, where some were asked for

	logits [][]float32 // of the pass that has just run, by output
	wants  []want
}

var _ engine.Engine = (*Engine)(nil)

// Open loads a model and allocates its KV cache.
func Open(o Options) (*Engine, error) {
	typeK, err := cacheType(o.TypeK)
	if err != nil {
		return nil, err
	}
	typeV, err := cacheType(o.TypeV)
	if err != nil {
		return nil, err
	}
	if o.Slots < 0 || o.Slots > maxSlots || o.SlotTokens < 0 || o.KVBudget < 0 || o.Threads < 0 || o.PassTokens < 0 {
		return nil, fmt.Errorf("engine: slots (at most %d), tokens a slot, KV budget, threads and pass tokens must not be negative", maxSlots)
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
	e := &Engine{model: model, info: readInfo(model), tokenBytes: tokenBytes(model, typeK, typeV)}
	if o.Draft != "" {
		if e.draft, err = loadDraft(o.Draft, params, model, typeK, typeV); err != nil {
			e.Close()
			return nil, err
		}
		e.tokenBytes += e.draft.tokenBytes
	}
	if err := e.open(o, typeK, typeV); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) open(o Options, typeK, typeV llama.GGMLType) error {
	if !llama.ModelHasDecoder(e.model) || llama.ModelHasEncoder(e.model) || llama.ModelIsDiffusion(e.model) {
		return fmt.Errorf("model: %s (%s) does not generate text token by token; it cannot be served", o.Model, e.info.Description)
	}
	l, err := e.size(o)
	if err != nil {
		return err
	}
	streams := l.Slots + l.Scratch
	if e.threads, err = newThreads(o.Threads); err != nil {
		return err
	}
	p := contextParams(streams, l.PassTokens, l.PassOutputs, e.threads.n)
	p.TypeK, p.TypeV = typeK, typeV
	if l.Layout == engine.Unified {
		p.KVUnified = 1
		p.NCtx = uint32(l.PoolTokens + 64) // room for idle rows beside a full pool
	} else {
		// One cell more than a slot's tokens, for an idle row behind a full slot.
		p.NCtx = uint32(streams * pad(l.SlotTokens+1, ctxPad))
	}
	if err := e.init(e.model, p, e.threads); err != nil {
		return fmt.Errorf("engine: no context of %d slots × %d tokens (%d MiB of KV): %w",
			l.Slots, l.SlotTokens, int64(p.NCtx)*int64(l.TokenBytes)>>20, err)
	}
	if err := e.warm(e.model); err != nil {
		return err
	}
	if e.draft != nil {
		if err := e.draft.open(l, e.threads, typeK, typeV); err != nil {
			return err
		}
		l.Draft = maxDraft
	}
	e.limits = l
	e.ledger = engine.NewLedger(l)
	e.pool = engine.NewPool(l.Vocab)
	if o.Slab != nil {
		pageTokens := o.PageTokens
		if pageTokens == 0 {
			pageTokens = max(1, min(defaultPageTokens, maxPageBytes/max(1, l.TokenBytes)))
		}
		if e.unpaged = e.setPages(o.Slab, pageTokens); e.unpaged == nil {
			e.ledger = engine.NewLedger(e.limits)
		}
	}
	return nil
}

// Unpaged says why the model is served without host pages; nil if it is with, or if
// none were asked for.
func (e *Engine) Unpaged() error { return e.unpaged }

// size decides the layout and what fits.
func (e *Engine) size(o Options) (engine.Limits, error) {
	l, err := Fit(o, e.info.Name, e.tokenBytes, e.info.ContextTrain)
	l.Vocab = int(llama.VocabNTokens(llama.ModelGetVocab(e.model)))
	l.Trims = !llama.ModelIsRecurrent(e.model) && !llama.ModelIsHybrid(e.model)
	return l, err
}

func pad(n, to int) int { return (n + to - 1) / to * to }

// Limits implements engine.Engine.
func (e *Engine) Limits() engine.Limits { return e.limits }

// Info says what the model is.
func (e *Engine) Info() Info { return e.info }

// Close frees the model and its memory.
func (e *Engine) Close() error {
	if e.draft != nil {
		e.draft.close()
		e.draft = nil
	}
	e.free()
	e.threads.end()
	if e.model != 0 {
		llama.ModelFree(e.model)
		e.model = 0
	}
	return nil
}
