package template

import (
	"encoding/json"
	"fmt"

	"github.com/ardanlabs/jinja"
)

// Conversation is what a template renders.
type Conversation struct {
	Messages            []Message
	AddGenerationPrompt bool  // end with the opening of the assistant's next message
	Tools               []any // tool definitions, each a Dict; nil: none
	// Extra are further variables of the template ("enable_thinking"). They do not
	// replace those that this package sets.
	Extra Dict
}

// Message is one message; the template sees a dict with these keys in this order.
type Message struct {
	Role    string
	Content string
	Name    string // absent if empty
	Extra   Dict   // what else there is ("tool_calls"); replaces the above of the same key
}

// Dict is an ordered dict: a template that prints one shows its keys in order.
// Values are nil, bool, int, int64, float64, json.Number, string, []any and Dict.
type Dict []Field

// Field is an entry of a Dict.
type Field struct {
	Key   string
	Value any
}

// maxDepth bounds how deep Dicts and lists nest.
const maxDepth = 64

// converter makes the template's values; text is applied to every string.
type converter struct {
	text func(string) string
}

func (c converter) conversation(conv Conversation) (map[string]jinja.Value, error) {
	vars := make(map[string]jinja.Value, len(conv.Extra)+16)
	for _, f := range conv.Extra {
		v, err := c.value(f.Value, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Key, err)
		}
		vars[f.Key] = v
	}
	messages := make([]jinja.Value, len(conv.Messages))
	for i, m := range conv.Messages {
		v, err := c.message(m)
		if err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
		messages[i] = v
	}
	vars["messages"] = jinja.NewList(messages)
	// transformers passes None for these where there are none.
	vars["tools"], vars["documents"] = jinja.None(), jinja.None()
	if conv.Tools != nil {
		v, err := c.value(conv.Tools, 0)
		if err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
		vars["tools"] = v
	}
	vars["add_generation_prompt"] = jinja.NewBool(conv.AddGenerationPrompt)
	return vars, nil
}

func (c converter) message(m Message) (jinja.Value, error) {
	v := jinja.NewDict()
	d := v.AsDict()
	d.Set("role", jinja.NewString(c.text(m.Role)))
	d.Set("content", jinja.NewString(c.text(m.Content)))
	if m.Name != "" {
		d.Set("name", jinja.NewString(c.text(m.Name)))
	}
	for _, f := range m.Extra {
		x, err := c.value(f.Value, 0)
		if err != nil {
			return v, fmt.Errorf("%s: %w", f.Key, err)
		}
		d.Set(c.text(f.Key), x)
	}
	return v, nil
}

func (c converter) value(x any, depth int) (jinja.Value, error) {
	if depth > maxDepth {
		return jinja.None(), &RequestError{Msg: fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	switch x := x.(type) {
	case nil, bool, int, int64, float64, json.Number:
		return jinja.FromGoValue(x), nil
	case string:
		return jinja.NewString(c.text(x)), nil
	case []any:
		items := make([]jinja.Value, len(x))
		for i, e := range x {
			v, err := c.value(e, depth+1)
			if err != nil {
				return v, err
			}
			items[i] = v
		}
		return jinja.NewList(items), nil
	case Dict:
		v := jinja.NewDict()
		d := v.AsDict()
		for _, f := range x {
			e, err := c.value(f.Value, depth+1)
			if err != nil {
				return e, err
			}
			d.Set(c.text(f.Key), e)
		}
		return v, nil
	}
	return jinja.None(), fmt.Errorf("a %T cannot be rendered", x)
}
