package openai

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ChatRequest is a /v1/chat/completions request.
type ChatRequest struct {
	Model    string // "" where the client named none
	Messages []Message
	Params
}

// Message is one turn. Content parts are joined by newlines, since most chat
// templates take a string.
type Message struct {
	Role    string // system, user or assistant; developer is read as system
	Content string
	Name    string
}

// DecodeChat reads and validates a chat request.
func DecodeChat(body []byte, lim Limits) (*ChatRequest, *Error) {
	f, err := decode(body, lim.Depth)
	if err != nil {
		return nil, err
	}
	r := &ChatRequest{}
	r.Model, _ = f.str("model", maxName)
	r.Messages = f.messages(lim)
	r.Params = f.params(lim)
	f.maxTokens(&r.Params, 1, "max_completion_tokens", "max_tokens")
	r.LogProbs, _ = f.boolean("logprobs")
	if v, ok := f.integer("top_logprobs", 0, int64(lim.LogProbs)); ok {
		if v > 0 && !r.LogProbs {
			f.fail(Invalid("top_logprobs", "top_logprobs is only allowed when logprobs is true"))
		}
		r.TopLogProbs = int(v)
	}
	f.refuseChat()
	if err := f.failed(); err != nil {
		return nil, err
	}
	return r, nil
}

// messages reads the conversation.
func (f fields) messages(lim Limits) []Message {
	elems, ok := f.array("messages", lim.Messages)
	if f.failed() != nil {
		return nil
	}
	if !ok || len(elems) == 0 {
		f.fail(Invalid("messages", "messages must hold at least one message"))
		return nil
	}
	out := make([]Message, 0, len(elems))
	for i, e := range elems {
		m, ok := f.sub(fmt.Sprintf("messages[%d]", i), e)
		if !ok {
			return nil
		}
		out = append(out, m.message())
		if f.failed() != nil {
			return nil
		}
	}
	return out
}

func (f fields) message() Message {
	var m Message
	role, ok := f.str("role", maxName)
	switch role {
	case "system", "user", "assistant":
		m.Role = role
	case "developer":
		m.Role = "system"
	case "tool", "function":
		f.fail(notServed(f.path+"role", "a message of role "+role))
	default:
		if !ok {
			f.fail(Invalid(f.path+"role", "%srole is missing; system, developer, user or assistant was expected", f.path))
		}
		f.fail(Invalid(f.path+"role", "%srole must be system, developer, user or assistant; got %q", f.path, clip(role, 32)))
	}
	m.Name, _ = f.str("name", maxName)
	for _, name := range []string{"tool_calls", "function_call", "audio"} {
		if raw := f.get(name); raw != nil && string(raw) != "[]" {
			f.fail(notServed(f.path+name, name))
		}
	}
	raw := f.get("content")
	switch {
	case raw == nil && m.Role == "assistant": // an assistant's turn may be empty
	case raw == nil:
		f.fail(Invalid(f.path+"content", "%scontent is missing; a string or an array of text parts was expected", f.path))
	case raw[0] == '"':
		m.Content, _ = unquote(raw)
	case raw[0] == '[':
		m.Content = f.parts(raw)
	default:
		f.wrong("content", "a string or an array of text parts", raw)
	}
	return m
}

func (f fields) parts(raw json.RawMessage) string {
	elems, ok := f.array("content", 4096)
	if !ok {
		return ""
	}
	texts := make([]string, 0, len(elems))
	for i, e := range elems {
		part, ok := f.sub(fmt.Sprintf("content[%d]", i), e)
		if !ok {
			return ""
		}
		switch t, ok := part.str("type", maxName); {
		case t == "text":
			if s, ok := part.str("text", 1<<30); ok {
				texts = append(texts, s)
			} else {
				f.fail(Invalid(part.path+"text", "%stext is missing", part.path))
			}
		case t == "refusal":
			f.fail(notServed(part.path+"type", "a refusal part"))
		case t == "image_url" || t == "input_audio" || t == "file" || t == "video_url":
			f.fail(notServed(part.path+"type", "a content part of type "+t))
		case !ok:
			f.fail(Invalid(part.path+"type", "%stype is missing; text was expected", part.path))
		default:
			f.fail(Invalid(part.path+"type", "%stype must be text; got %q", part.path, clip(t, 32)))
		}
	}
	return strings.Join(texts, "\n")
}
