package openai

import (
	"strconv"

	"llamero/tokenizer"
)

// ModelInfo is one entry of /v1/models.
type ModelInfo struct {
	ID      string
	Created int64
	Context int // tokens a slot holds, as vLLM's max_model_len
}

// AppendModel appends one model.
func AppendModel(dst []byte, m ModelInfo) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, m.ID)
	dst = append(dst, `,"object":"model","created":`...)
	dst = strconv.AppendInt(dst, m.Created, 10)
	dst = append(dst, `,"owned_by":"llamero","max_model_len":`...)
	dst = appendInt(dst, m.Context)
	return append(dst, '}')
}

// AppendModels appends the list of models.
func AppendModels(dst []byte, ms []ModelInfo) []byte {
	dst = append(dst, `{"object":"list","data":[`...)
	for i, m := range ms {
		dst = comma(dst, i)
		dst = AppendModel(dst, m)
	}
	return append(dst, `]}`...)
}

// AppendTokens appends /tokenize's answer.
func AppendTokens(dst []byte, toks []tokenizer.Token) []byte {
	dst = append(dst, `{"tokens":[`...)
	for i, t := range toks {
		dst = comma(dst, i)
		dst = appendInt(dst, int(t))
	}
	return append(dst, `]}`...)
}

// AppendContent appends /detokenize's answer.
func AppendContent(dst, text []byte) []byte {
	dst = append(dst, `{"content":`...)
	dst = appendString(dst, text)
	return append(dst, '}')
}

// AppendPrompt appends /apply-template's answer.
func AppendPrompt(dst []byte, prompt string) []byte {
	dst = append(dst, `{"prompt":`...)
	dst = appendString(dst, prompt)
	return append(dst, '}')
}
