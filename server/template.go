package server

import (
	"errors"

	"llamero/server/openai"
	"llamero/tokenizer"
	"llamero/tokenizer/template"
)

// FromTemplate returns t as a ChatTemplate.
func FromTemplate(t *template.Template) ChatTemplate { return chatTemplate{t} }

type chatTemplate struct{ t *template.Template }

func (c chatTemplate) Render(messages []openai.Message) ([]tokenizer.Segment, error) {
	conv := template.Conversation{Messages: make([]template.Message, len(messages)), AddGenerationPrompt: true}
	for i, m := range messages {
		conv.Messages[i] = template.Message{Role: m.Role, Content: m.Content, Name: m.Name}
	}
	segs, err := c.t.Render(conv)
	var refused *template.RequestError
	if errors.As(err, &refused) {
		return nil, openai.Invalid("messages", "The chat template refuses this conversation: %s", refused.Msg)
	}
	return segs, err
}
