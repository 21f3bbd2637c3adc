package openai

// A stream is server-sent events. Every event is one line `data: …` and a blank
// line. There is no id, no retry, and no blank line after a comment: SDKs stumble
// over each of them.

// Ping is a comment that keeps proxies from closing a silent stream. One newline:
// with a blank line two SDKs dispatch an empty event.
const Ping = ": ping\n"

// Done is the last event of a stream that did not fail.
const Done = "data: [DONE]\n\n"

// Chunks writes the events of one stream. It is not safe for concurrent use.
type Chunks struct {
	head    *Head
	prefix  []byte // all that comes before a choice's index
	suffix  string // all that comes after the last choice
	offsets []int  // text completions: characters sent, by choice
}

// NewChunks prepares the events of a stream of so many choices. With usage, each
// chunk says "usage":null until AppendUsage, as OpenAI documents it.
func NewChunks(h *Head, choices int, usage bool) *Chunks {
	object := "chat.completion.chunk"
	if h.Shape == Text {
		object = "text_completion"
	}
	c := &Chunks{head: h, suffix: "}]}\n\n", offsets: make([]int, choices)}
	if usage {
		c.suffix = "}],\"usage\":null}\n\n"
	}
	c.prefix = appendHead([]byte("data: "), h, object)
	return c
}

// AppendRole appends a chat choice's first chunk; text completions have none.
func (c *Chunks) AppendRole(dst []byte, choice int) []byte {
	if c.head.Shape == Text {
		return dst
	}
	dst = c.open(dst, choice)
	dst = append(dst, `,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null`...)
	return append(dst, c.suffix...)
}

// AppendDelta appends a chunk with text and the tokens it came from. finish is ""
// until the last chunk of a choice.
func (c *Chunks) AppendDelta(dst []byte, choice int, text []byte, toks []Scored, finish string) []byte {
	dst = c.open(dst, choice)
	switch {
	case c.head.Shape == Text:
		dst = append(dst, `,"text":`...)
		dst = appendString(dst, text)
	case len(text) == 0 && len(toks) == 0:
		dst = append(dst, `,"delta":{}`...)
	default:
		dst = append(dst, `,"delta":{"content":`...)
		dst = appendString(dst, text)
		dst = append(dst, '}')
	}
	if len(toks) == 0 {
		dst = append(dst, `,"logprobs":null`...)
	} else {
		dst, c.offsets[choice] = appendLogProbs(dst, c.head, toks, c.offsets[choice])
	}
	dst = append(dst, `,"finish_reason":`...)
	dst = appendNullable(dst, finish)
	return append(dst, c.suffix...)
}

// AppendUsage appends the chunk without choices that closes a stream's accounts.
func (c *Chunks) AppendUsage(dst []byte, u Usage) []byte {
	dst = append(dst, c.prefix...)
	dst = append(dst, `],"usage":`...)
	dst = appendUsage(dst, u)
	return append(dst, "}\n\n"...)
}

// AppendFailure appends the event of a stream that failed on its way; nothing comes
// after it, so that no client takes the answer for whole.
func AppendFailure(dst []byte, e *Error) []byte {
	dst = append(dst, "data: "...)
	dst = AppendError(dst, e)
	return append(dst, "\n\n"...)
}

func (c *Chunks) open(dst []byte, choice int) []byte {
	dst = append(dst, c.prefix...)
	dst = append(dst, `{"index":`...)
	return appendInt(dst, choice)
}
