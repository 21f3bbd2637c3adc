package server

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/server/openai"
	"llamero/tokenizer"
)

// job is a validated request for answers, and the model that will give them.
type job struct {
	model   *Model
	head    openai.Head
	params  openai.Params
	prompts []prompt
	release func() // gives back the place that was held while the prompts were prepared
	echo    bool
	content bool // records hold the texts
}

// prompt is one prompt, tokenised.
type prompt struct {
	tokens []tokenizer.Token
	text   string // with echo: what the answer begins with
}

func (s *Server) chat(c *fiber.Ctx) error {
	in, err := s.input(c)
	if err != nil {
		return err
	}
	req, wire := openai.DecodeChat(in, s.opt.Limits)
	if wire != nil {
		return wire
	}
	m, release, err := s.serving(c, req.Model, "chat", &req.Params)
	if err != nil {
		return err
	}
	defer release()
	if s.opt.Content {
		recordOf(c).Answer.Messages = req.Messages
	}
	segs, err := m.Template.Render(req.Messages)
	if err != nil {
		return err
	}
	toks, err := tokenizer.EncodeSegments(m.Tokenizer, segs, tokenizer.EncodeOptions{AddSpecial: true, MaxTokens: m.Loop.Limits().SlotTokens})
	if err != nil {
		return about("messages", err)
	}
	if len(toks) == 0 {
		return openai.Invalid("messages", "the conversation renders to nothing")
	}
	j := &job{model: m, release: release, params: req.Params, prompts: []prompt{{tokens: toks}}}
	j.head = s.head(j, openai.Chat, "chatcmpl-")
	return s.generate(c, j)
}

func (s *Server) text(c *fiber.Ctx) error {
	in, err := s.input(c)
	if err != nil {
		return err
	}
	req, wire := openai.DecodeCompletion(in, s.opt.Limits)
	if wire != nil {
		return wire
	}
	m, release, err := s.serving(c, req.Model, "text_completion", &req.Params)
	if err != nil {
		return err
	}
	defer release()
	j := &job{model: m, release: release, params: req.Params, echo: req.Echo, prompts: make([]prompt, len(req.Prompts))}
	for i, p := range req.Prompts {
		if s.opt.Content {
			a := recordOf(c).Answer
			a.Messages = append(a.Messages, openai.Message{Content: p.Text})
		}
		if j.prompts[i], err = readPrompt(m, p, req.Echo, req.ParseSpecial); err != nil {
			return about("prompt", err)
		}
	}
	j.head = s.head(j, openai.Text, "cmpl-")
	return s.generate(c, j)
}

func (s *Server) head(j *job, shape openai.Shape, prefix string) openai.Head {
	return openai.Head{Shape: shape, ID: s.newID(prefix), Created: s.now().Unix(), Model: j.model.Alias,
		Vocab: j.model.Tokenizer.Vocab(), LogProbs: j.params.LogProbs, Top: j.params.TopLogProbs}
}

// readPrompt tokenises a text completion's prompt, or checks the tokens it is.
func readPrompt(m *Model, p openai.Prompt, echo, special bool) (prompt, error) {
	v, limit := m.Tokenizer.Vocab(), m.Loop.Limits().SlotTokens
	out := prompt{tokens: p.Tokens}
	if p.Tokens != nil {
		if err := checkTokens(m, "prompt", p.Tokens); err != nil {
			return out, err
		}
		if len(p.Tokens) > limit {
			return out, &tokenizer.TooLongError{Tokens: len(p.Tokens), Limit: limit}
		}
		if echo {
			out.text = spell(v, p.Tokens)
		}
		return out, nil
	}
	toks, err := m.Tokenizer.Encode(p.Text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: special, MaxTokens: limit})
	if err != nil {
		return out, err
	}
	// A model that wants an end behind a text would have nothing to say after it.
	if n := len(toks); n > 1 && toks[n-1] == v.EOS() && toks[n-1] != v.BOS() && !endsIn(p.Text, v.Piece(v.EOS())) {
		toks = toks[:n-1]
	}
	if len(toks) == 0 {
		if v.BOS() == tokenizer.None {
			return out, openai.Invalid("prompt", "prompt is empty, and this model has no token that begins a text")
		}
		toks = []tokenizer.Token{v.BOS()}
	}
	out.tokens = toks
	if echo {
		out.text = p.Text
	}
	return out, nil
}

func endsIn(s, suffix string) bool {
	return suffix != "" && len(s) >= len(suffix) && s[len(s)-len(suffix):] == suffix
}

// spell is a prompt of tokens as text: control tokens by their spelling, a leading
// BOS left out, as a text prompt would not have it either.
func spell(v *tokenizer.Vocab, toks []tokenizer.Token) string {
	d := tokenizer.NewDecoder(v, tokenizer.DecoderOptions{Special: true})
	var text []byte
	for i, t := range toks {
		if i == 0 && t == v.BOS() {
			continue
		}
		text, _ = d.Append(text, t)
	}
	text, _ = d.Flush(text)
	return string(text)
}

// about names the field in an error that came without.
func about(param string, err error) error {
	if wire := toWire(err); wire.Status == http.StatusBadRequest && wire.Param == "" {
		wire.Param = param
		return wire
	}
	return err
}

// requests are what the scheduler gets, one a prompt. No request, with no error,
// means that there is nothing to compute.
func (j *job) requests(tenant string) ([]scheduler.Request, error) {
	p := &j.params
	if p.NoTokens && !p.LogProbs {
		return nil, nil
	}
	v := j.model.Tokenizer.Vocab()
	for _, b := range p.Sampling.Bias {
		if !v.Valid(b.Token) {
			return nil, openai.Invalid("logit_bias", "logit_bias: there is no token %d; the vocabulary has %d", b.Token, v.Len())
		}
	}
	sampling := p.Sampling
	sampling.LogProbs = p.EngineLogProbs()
	if p.Seed != nil {
		sampling.Seed = *p.Seed
	} else {
		sampling.Seed = rand.Uint64()
	}
	stop := v.EOG()
	if p.IgnoreEOS {
		// Not to stop there would not be enough: the token would be in the text.
		stop = nil
		sampling.Bias = append([]engine.Bias(nil), sampling.Bias...)
		for _, t := range v.EOG() {
			sampling.Bias = append(sampling.Bias, engine.Bias{Token: t, Add: float32(math.Inf(-1))})
		}
	}
	maxTokens := p.MaxTokens
	if bound := j.model.MaxTokens; bound > 0 && (maxTokens == 0 || maxTokens > bound) {
		maxTokens = bound
	}
	if p.NoTokens {
		maxTokens = -1
	}
	out := make([]scheduler.Request, len(j.prompts))
	for i := range j.prompts {
		out[i] = scheduler.Request{Tenant: tenant, Priority: p.Priority, Prompt: j.prompts[i].tokens, Sampling: sampling,
			Choices: p.N, MaxTokens: maxTokens, Stop: stop, PromptScores: j.echo && p.LogProbs}
	}
	return out, nil
}

// serving is model for requests that need a place, and holds one: those that would
// be refused for load or a shutdown are, before anything is spent on their prompts.
func (s *Server) serving(c *fiber.Ctx, name, operation string, p *openai.Params) (*Model, func(), error) {
	m, err := s.model(c, name)
	if err != nil {
		return nil, nil, err
	}
	recordOf(c).Answer = &Answer{Operation: operation, Params: *p, Began: time.Now()}
	if s.drained.Load() {
		return nil, nil, errDraining()
	}
	release, err := m.Loop.Hold()
	return m, release, err
}
