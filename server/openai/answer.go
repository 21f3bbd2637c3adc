package openai

import (
	"llamero/tokenizer"
)

// Shape tells the two kinds of answers apart.
type Shape uint8

const (
	Chat Shape = iota + 1
	Text
)

// Head is what an answer and each chunk of a stream begin with.
type Head struct {
	Shape   Shape
	ID      string
	Created int64 // Unix seconds
	Model   string
	// Vocab spells tokens; LogProbs and Top say whether and how many.
	Vocab    *tokenizer.Vocab
	LogProbs bool
	Top      int
}

// Usage is what a request took, in tokens.
type Usage struct {
	Prompt, Completion, Cached int
	// Guessed tokens were verified to get the completion, of which Accepted were right;
	// Guesses says whether they are told.
	Guesses           bool
	Guessed, Accepted int
}

// Choice is one whole answer.
type Choice struct {
	Text   []byte
	Tokens []Scored // empty unless Head.LogProbs
	Finish string   // stop or length
}

// AppendAnswer appends a whole answer.
func AppendAnswer(dst []byte, h *Head, choices []Choice, u Usage) []byte {
	object := "chat.completion"
	if h.Shape == Text {
		object = "text_completion"
	}
	dst = appendHead(dst, h, object)
	for i, c := range choices {
		dst = comma(dst, i)
		dst = append(dst, `{"index":`...)
		dst = appendInt(dst, i)
		if h.Shape == Chat {
			dst = append(dst, `,"message":{"role":"assistant","content":`...)
			dst = appendString(dst, c.Text)
			dst = append(dst, `,"refusal":null}`...)
		} else {
			dst = append(dst, `,"text":`...)
			dst = appendString(dst, c.Text)
		}
		dst, _ = appendLogProbs(dst, h, c.Tokens, 0)
		dst = append(dst, `,"finish_reason":`...)
		dst = appendNullable(dst, c.Finish)
		dst = append(dst, '}')
	}
	dst = append(dst, `],"usage":`...)
	dst = appendUsage(dst, u)
	return append(dst, '}')
}

func appendHead(dst []byte, h *Head, object string) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, h.ID)
	dst = append(dst, `,"object":"`...)
	dst = append(dst, object...)
	dst = append(dst, `","created":`...)
	dst = appendInt(dst, int(h.Created))
	dst = append(dst, `,"model":`...)
	dst = appendString(dst, h.Model)
	return append(dst, `,"choices":[`...)
}

// appendLogProbs appends the logprobs member in h's shape.
func appendLogProbs(dst []byte, h *Head, toks []Scored, offset int) ([]byte, int) {
	dst = append(dst, `,"logprobs":`...)
	switch {
	case !h.LogProbs:
		return append(dst, "null"...), offset
	case h.Shape == Text:
		return appendTextLogProbs(dst, h.Vocab, toks, h.Top, offset)
	}
	return appendChatLogProbs(dst, h.Vocab, toks, h.Top), offset
}

func appendUsage(dst []byte, u Usage) []byte {
	dst = append(dst, `{"prompt_tokens":`...)
	dst = appendInt(dst, u.Prompt)
	dst = append(dst, `,"completion_tokens":`...)
	dst = appendInt(dst, u.Completion)
	dst = append(dst, `,"total_tokens":`...)
	dst = appendInt(dst, u.Prompt+u.Completion)
	dst = append(dst, `,"prompt_tokens_details":{"cached_tokens":`...)
	dst = appendInt(dst, u.Cached)
	dst = append(dst, '}')
	if u.Guesses {
		dst = append(dst, `,"completion_tokens_details":{"accepted_prediction_tokens":`...)
		dst = appendInt(dst, u.Accepted)
		dst = append(dst, `,"rejected_prediction_tokens":`...)
		dst = appendInt(dst, u.Guessed-u.Accepted)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
