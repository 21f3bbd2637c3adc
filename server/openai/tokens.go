package openai

import (
	"slices"

	"llamero/engine"
	"llamero/tokenizer"
)

// TokenizeRequest is a /tokenize request, as llama-server has it.
type TokenizeRequest struct {
	Model        string
	Content      string
	AddSpecial   bool
	ParseSpecial bool // true unless the client says otherwise
}

// DecodeTokenize reads a /tokenize request.
func DecodeTokenize(body []byte, lim Limits) (*TokenizeRequest, *Error) {
	f, err := decode(body, lim.Depth)
	if err != nil {
		return nil, err
	}
	r := &TokenizeRequest{ParseSpecial: true}
	r.Model, _ = f.str("model", maxName)
	content, ok := f.str("content", 1<<30)
	if !ok {
		f.fail(Invalid("content", "content is missing"))
	}
	r.Content = content
	r.AddSpecial, _ = f.boolean("add_special")
	if v, ok := f.boolean("parse_special"); ok {
		r.ParseSpecial = v
	}
	if err := f.failed(); err != nil {
		return nil, err
	}
	return r, nil
}

// DetokenizeRequest is a /detokenize request.
type DetokenizeRequest struct {
	Model  string
	Tokens []tokenizer.Token
}

// DecodeDetokenize reads a /detokenize request. An empty list of tokens is fine.
func DecodeDetokenize(body []byte, lim Limits) (*DetokenizeRequest, *Error) {
	f, err := decode(body, lim.Depth)
	if err != nil {
		return nil, err
	}
	r := &DetokenizeRequest{}
	r.Model, _ = f.str("model", maxName)
	switch raw := f.get("tokens"); {
	case f.failed() != nil:
	case raw == nil:
		f.fail(Invalid("tokens", "tokens is missing"))
	case raw[0] != '[':
		f.wrong("tokens", "an array of tokens", raw)
	case !isEmptyArray(raw):
		r.Tokens = f.tokens("tokens", raw, lim)
	}
	if err := f.failed(); err != nil {
		return nil, err
	}
	return r, nil
}

// TemplateRequest is an /apply-template request.
type TemplateRequest struct {
	Model    string
	Messages []Message
}

// DecodeTemplate reads an /apply-template request.
func DecodeTemplate(body []byte, lim Limits) (*TemplateRequest, *Error) {
	f, err := decode(body, lim.Depth)
	if err != nil {
		return nil, err
	}
	r := &TemplateRequest{}
	r.Model, _ = f.str("model", maxName)
	r.Messages = f.messages(lim)
	f.refuseChat()
	if err := f.failed(); err != nil {
		return nil, err
	}
	return r, nil
}

func sortBias(b []engine.Bias) {
	slices.SortFunc(b, func(x, y engine.Bias) int { return int(x.Token) - int(y.Token) })
}
