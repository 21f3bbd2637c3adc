package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"llamero/tokenizer"
)

// CompletionRequest is a /v1/completions request.
type CompletionRequest struct {
	Model   string
	Prompts []Prompt // at least one; N answers each, in order
	Echo    bool     // the answer begins with its prompt
	// ParseSpecial reads control tokens that a text prompt spells as those tokens, as
	// llama-server and vLLM do: whoever writes a raw prompt writes all of it. An
	// extension, true unless the client says otherwise.
	ParseSpecial bool
	Params
}

// Prompt is text, or tokens if Tokens is not nil.
type Prompt struct {
	Text   string
	Tokens []tokenizer.Token
}

// DefaultCompletionTokens is OpenAI's max_tokens where a text completion names none.
const DefaultCompletionTokens = 16

// DecodeCompletion reads and validates a text completion request.
func DecodeCompletion(body []byte, lim Limits) (*CompletionRequest, *Error) {
	f, err := decode(body, lim.Depth)
	if err != nil {
		return nil, err
	}
	r := &CompletionRequest{}
	r.Model, _ = f.str("model", maxName)
	r.Prompts = f.prompts(lim)
	r.Params = f.params(lim)
	r.Echo, _ = f.boolean("echo")
	r.ParseSpecial = true
	if v, ok := f.boolean("parse_special"); ok {
		r.ParseSpecial = v
	}
	r.MaxTokens = DefaultCompletionTokens
	f.maxTokens(&r.Params, 0, "max_completion_tokens", "max_tokens")
	if r.NoTokens && !r.Echo {
		f.fail(Invalid("max_tokens", "max_tokens may be 0 only with echo"))
	}
	if v, ok := f.logprobs(lim); ok {
		r.LogProbs, r.TopLogProbs = true, v
	}
	f.refuseCompletion(r.N)
	if n := r.N * len(r.Prompts); n > lim.Choices {
		f.fail(Invalid("n", "n times the number of prompts is %d; at most %d answers are given to a request", n, lim.Choices))
	}
	if err := f.failed(); err != nil {
		return nil, err
	}
	return r, nil
}

// logprobs is a count here and a boolean for chats; false is taken as absent.
func (f fields) logprobs(lim Limits) (int, bool) {
	if raw := f.get("logprobs"); raw == nil || string(raw) == "false" {
		return 0, false
	}
	v, ok := f.integer("logprobs", 0, int64(lim.LogProbs))
	return int(v), ok
}

// prompts reads "…", ["…"], [1, 2] or [[1, 2]].
func (f fields) prompts(lim Limits) []Prompt {
	raw := f.get("prompt")
	if f.failed() != nil {
		return nil
	}
	if raw == nil {
		f.fail(Invalid("prompt", "prompt is missing"))
		return nil
	}
	switch kindOf(raw) {
	case "a string":
		s, _ := unquote(raw)
		return []Prompt{{Text: s}}
	case "an array":
	default:
		f.wrong("prompt", "a string, an array of strings, an array of tokens or an array of those", raw)
		return nil
	}
	first := kindOf(bytes.TrimLeft(raw[1:], " \t\r\n"))
	if first == "a number" && raw[len(raw)-1] == ']' && !isEmptyArray(raw) {
		if toks := f.tokens("prompt", raw, lim); toks != nil {
			return []Prompt{{Tokens: toks}}
		}
		return nil
	}
	elems, ok := f.array("prompt", lim.Choices)
	if !ok {
		return nil
	}
	if len(elems) == 0 {
		f.fail(Invalid("prompt", "prompt is empty"))
		return nil
	}
	out := make([]Prompt, 0, len(elems))
	for i, e := range elems {
		name := fmt.Sprintf("prompt[%d]", i)
		switch k := kindOf(e); {
		case k != first:
			f.fail(Invalid("prompt", "prompt mixes %s with %s", first, k))
			return nil
		case k == "a string":
			s, _ := unquote(e)
			out = append(out, Prompt{Text: s})
		case k == "an array":
			toks := f.tokens(name, e, lim)
			if toks == nil {
				return nil
			}
			out = append(out, Prompt{Tokens: toks})
		default:
			f.fail(Invalid("prompt", "%s must be a string or an array of tokens; got %s", name, k))
			return nil
		}
	}
	return out
}

func isEmptyArray(raw json.RawMessage) bool {
	return len(raw) >= 2 && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
}

// tokens reads an array of token ids, nil after an error. Whether the ids exist is
// the caller's to check.
func (f fields) tokens(name string, raw json.RawMessage, lim Limits) []tokenizer.Token {
	var toks []tokenizer.Token
	// The fast way takes plain integers; encoding/json reads null as 0, so not that.
	if !bytes.Contains(raw, []byte("null")) && json.Unmarshal(raw, &toks) == nil {
		for _, t := range toks {
			if t < 0 {
				f.fail(Invalid(topLevel(name), "%s: %d is not a token", f.path+name, t))
				return nil
			}
		}
	} else {
		var elems []json.RawMessage
		if json.Unmarshal(raw, &elems) != nil {
			f.fail(Invalid(topLevel(name), "%s must be an array of tokens", f.path+name))
			return nil
		}
		toks = make([]tokenizer.Token, 0, len(elems))
		for i, e := range elems {
			v, err := parseInt(e)
			if err != nil || v < 0 || v > math.MaxInt32 {
				f.fail(Invalid(topLevel(name), "%s[%d] is not a token: %s", f.path+name, i, clip(string(e), 32)))
				return nil
			}
			toks = append(toks, tokenizer.Token(v))
		}
	}
	switch {
	case len(toks) == 0:
		f.fail(Invalid(topLevel(name), "%s is empty", f.path+name))
		return nil
	case len(toks) > lim.Tokens:
		f.fail(Invalid(topLevel(name), "%s has %d tokens; at most %d are taken", f.path+name, len(toks), lim.Tokens))
		return nil
	}
	return toks
}

// topLevel is the member that a path begins with, which is what clients look up.
func topLevel(name string) string {
	for i := range name {
		if name[i] == '[' {
			return name[:i]
		}
	}
	return name
}
