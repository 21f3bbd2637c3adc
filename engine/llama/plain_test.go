package llama

import (
	"os"
	"testing"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/engine"
	"llamero/models"
)

// files returns the libraries and the model that tests run on: LLAMERO_LIB and
// LLAMERO_MODEL, else what `llamero libs fetch` and `llamero models fetch` brought.
// Without them a test is skipped, but never in CI.
func files(t testing.TB) (lib, model string) {
	t.Helper()
	lib, err := models.ResolveLibs(os.Getenv("LLAMERO_LIB"), "cpu")
	if err != nil {
		missing(t, err)
	}
	model, err = models.Resolve(os.Getenv("LLAMERO_MODEL"))
	if err != nil {
		missing(t, err)
	}
	return lib, model
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// plain is the loop that everybody writes first: one sequence, one token at a
// time, the binding and nothing else. It is what the engine is held against.
type plain struct {
	t      testing.TB
	model  llama.Model
	ctx    llama.Context
	mem    llama.Memory
	batch  llama.Batch
	vocab  int
	chunk  int // prompt tokens a call
	logits []float32
	pos    int
}

func openPlain(t testing.TB, lib, path string, tokens, chunk int) *plain {
	t.Helper()
	if err := load(lib); err != nil {
		t.Fatal(err)
	}
	params := llama.ModelDefaultParams()
	m, err := loadModel(path, params)
	if err != nil {
		t.Fatal(err)
	}
	c := llama.ContextDefaultParams()
	c.NCtx, c.NBatch, c.NUbatch = uint32(tokens), 512, 512
	c.FlashAttentionType = llama.FlashAttentionTypeEnabled
	c.NThreads, c.NThreadsBatch = 2, 2
	ctx, err := llama.InitFromModel(m, c)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := llama.GetMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{t: t, model: m, ctx: ctx, mem: mem, chunk: chunk,
		batch: llama.BatchInit(512, 0, 1), vocab: int(llama.VocabNTokens(llama.ModelGetVocab(m)))}
	t.Cleanup(func() {
		llama.BatchFree(p.batch)
		llama.Free(ctx)
		llama.ModelFree(m)
	})
	return p
}

func (p *plain) reset() {
	llama.MemoryClear(p.mem, false)
	p.pos = 0
}

// feed computes tokens and leaves the logits behind the last one.
func (p *plain) feed(tokens ...engine.Token) {
	p.t.Helper()
	for len(tokens) > 0 {
		n := min(len(tokens), p.chunk)
		p.batch.Clear()
		for i, tok := range tokens[:n] {
			if err := p.batch.Add(llama.Token(tok), llama.Pos(p.pos+i), []llama.SeqId{0}, i == n-1); err != nil {
				p.t.Fatal(err)
			}
		}
		if code, err := llama.Decode(p.ctx, p.batch); err != nil || code != 0 {
			p.t.Fatalf("decode: %d, %v", code, err)
		}
		p.pos += n
		tokens = tokens[n:]
	}
	logits, err := llama.GetLogitsIth(p.ctx, -1, p.vocab)
	if err != nil || logits == nil {
		p.t.Fatal("no logits: ", err)
	}
	p.logits = logits
}

func (p *plain) best() engine.Token {
	best := 0
	for i, x := range p.logits {
		if x > p.logits[best] {
			best = i
		}
	}
	return engine.Token(best)
}

// greedy generates n tokens.
func (p *plain) greedy(prompt []engine.Token, n int) []engine.Token {
	p.t.Helper()
	p.reset()
	p.feed(prompt...)
	var out []engine.Token
	for range n {
		t := p.best()
		out = append(out, t)
		if len(out) < n {
			p.feed(t)
		}
	}
	return out
}

// force feeds an answer token by token and returns how far each of its tokens was
// from the best logit.
func (p *plain) force(prompt, answer []engine.Token) []float64 {
	p.t.Helper()
	p.reset()
	p.feed(prompt...)
	gaps := make([]float64, len(answer))
	for i, t := range answer {
		gaps[i] = float64(p.logits[p.best()] - p.logits[t])
		if i < len(answer)-1 {
			p.feed(t)
		}
	}
	return gaps
}

// vulkanLibs is where the Vulkan build of the libraries is.
func vulkanLibs() (string, error) {
	return models.ResolveLibs(os.Getenv("LLAMERO_LIB_VULKAN"), "vulkan")
}
