package template

import (
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"

	"llamero/tokenizer"
)

// ChatML is for models whose file has no template: what most models that have
// none were trained on, and llama.cpp's choice, too.
const ChatML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}` +
	`{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// MaxSource bounds a template's source in bytes; the longest in use have some 20 KiB.
const MaxSource = 128 << 10

// RequestError says that a template refuses a conversation ("Conversation roles
// must alternate …"). The message is the template's, for the client.
type RequestError struct {
	Msg string
}

func (e *RequestError) Error() string { return e.Msg }

// Template is a parsed chat template. It is safe for concurrent use once its
// fields are set.
type Template struct {
	// Controls are the spellings that stay text where a conversation has them.
	// Without, all of a prompt is one Special segment.
	Controls *tokenizer.Spellings
	// Now is the clock of strftime_now; time.Now if nil.
	Now func() time.Time

	source   string
	bos, eos string
	parsed   *jinja.Template
}

// Parse reads a template. bos and eos are the spellings that it sees as bos_token
// and eos_token, "" where the model has none.
func Parse(src, bos, eos string) (t *Template, err error) {
	if len(src) > MaxSource {
		return nil, fmt.Errorf("chat template: %d bytes, at most %d are taken", len(src), MaxSource)
	}
	defer recoverTo(&err)
	lowered, err := lower(src)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	parsed, err := jinja.Compile(lowered)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	return &Template{source: src, bos: bos, eos: eos, parsed: parsed}, nil
}

// ForVocab parses a model's template (ChatML if src is empty) with the special
// tokens and spellings of its vocabulary.
func ForVocab(src string, v *tokenizer.Vocab) (*Template, error) {
	if src == "" {
		src = ChatML
	}
	t, err := Parse(src, v.Piece(v.BOS()), v.Piece(v.EOS()))
	if err != nil {
		return nil, err
	}
	t.Controls = v.Spellings()
	return t, nil
}

// Source is the template as it was given.
func (t *Template) Source() string { return t.source }

// Render renders a conversation. A *RequestError is the client's fault; any other
// error is the template's, ErrBudget among them. See tokenizer.EncodeSegments for
// what to do with the segments.
func (t *Template) Render(conv Conversation) ([]tokenizer.Segment, error) {
	m, err := t.marks(conv)
	if err != nil {
		return nil, err
	}
	vars, err := converter{text: m.mark}.conversation(conv)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	vars["bos_token"], vars["eos_token"] = jinja.NewString(t.bos), jinja.NewString(t.eos)
	now := t.Now
	if now == nil {
		now = time.Now
	}
	newBudget().install(vars)
	installGlobals(vars, now)
	text, err := t.execute(vars)
	if err != nil {
		return nil, err
	}
	return m.cut(text), nil
}

func (t *Template) execute(vars map[string]jinja.Value) (text string, err error) {
	defer recoverTo(&err)
	text, err = t.parsed.RenderValues(vars)
	var refused *RequestError
	switch {
	case errors.As(err, &refused):
		return "", refused
	case err != nil:
		return "", fmt.Errorf("chat template: %w", err)
	}
	return text, nil
}

// recoverTo makes an error of a panic: the library indexes without looking in
// places that an odd template reaches.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("chat template: %v", p)
	}
}
