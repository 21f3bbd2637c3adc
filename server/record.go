package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/server/openai"
)

// Record is what there is to say about one request at its end.
type Record struct {
	ID     string // x-request-id
	Method string
	Path   string // of the route; the given path where none matched
	Route  string // one of a fixed set; "" where none matched
	Status int    // 499 where the client went before its answer was whole
	Model  string // the alias, "" where none was reached
	Key    string // the API key's name
	Stream bool
	Err    error  // what went wrong inside, never shown to the client
	Code   string // of the error that the client got, "" for none: a word of a fixed set

	PromptTokens, CachedTokens, OutputTokens int

	Start    time.Time
	TTFT     time.Duration // from Start to the first token; 0: never
	Duration time.Duration // from Start to the last byte

	Answer *Answer // nil where no answer was asked for, or not validly
	Trace  any     // what Observer.Begin returned
}

// Answer is what a request for answers was, and how it went. Times are when things
// happened in the scheduler, however late they were read; zero: never.
type Answer struct {
	Operation string // "chat" or "text_completion"
	ID        string // of the answer: "chatcmpl-…"
	Params    openai.Params
	Began     time.Time // its model was found
	Submitted time.Time // handed to the scheduler
	Admitted  time.Time // the first choice got a slot
	First     time.Time // the first token of any choice
	Last      time.Time // the last choice ended
	Finish    []string  // by choice: "stop" or "length", "" where it has not ended
	Lookups   []Lookup  // of its prompts' prefixes, in the order in which they ended

	// With Options.Content, else nil; bounded by what a request's body is.
	Messages []openai.Message // of a chat; of a text completion its prompts, from nobody
	Texts    []string         // by choice
}

// Lookup is a search for a prompt's prefix in a tier of the cache.
type Lookup struct {
	Tier         string // "host": this process's memory; "remote": what gateways share
	Began, Ended time.Time
	Asked, Found int // tokens
}

// Observer follows requests, for traces and metrics. Nil funcs are not called.
type Observer struct {
	// Begin is called when a request's headers are there, unless it is for the
	// server's own health or metrics. get reads a header of the request, set writes
	// one of the answer. What Begin returns is Record.Trace.
	Begin func(r *Record, get func(name string) string, set func(name, value string)) any
	// End is called once for each request when its last byte is written, on the
	// request's goroutine. The Record must not be kept.
	End func(*Record)
}

// StatusClientGone is nginx's code for a client that closed its connection.
const StatusClientGone = 499

type recordKey struct{}

// recordOf returns the record that the outermost handler has made.
func recordOf(c *fiber.Ctx) *Record { return c.Locals(recordKey{}).(*Record) }

// end logs a request and tells OnEnd. It is called once for each.
func (s *Server) end(r *Record) {
	r.Duration = time.Since(r.Start)
	level := slog.LevelInfo
	switch {
	case r.Status >= 500 && r.Status != 503:
		level = slog.LevelError
	case isProbe(r.Path):
		level = slog.LevelDebug // probes come every few seconds, for ever
	}
	if s.log.Enabled(context.Background(), level) {
		attrs := make([]slog.Attr, 0, 16)
		attrs = append(attrs, slog.String("id", r.ID), slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status))
		if r.Key != "" {
			attrs = append(attrs, slog.String("key", r.Key))
		}
		if r.PromptTokens > 0 {
			attrs = append(attrs, slog.String("model", r.Model), slog.Bool("stream", r.Stream),
				slog.Int("prompt_tokens", r.PromptTokens), slog.Int("cached_tokens", r.CachedTokens),
				slog.Int("output_tokens", r.OutputTokens), slog.Duration("ttft", r.TTFT), slog.String("finish", r.finish()))
		}
		attrs = append(attrs, slog.Duration("duration", r.Duration))
		if r.Err != nil {
			attrs = append(attrs, slog.Any("error", r.Err))
		}
		s.log.LogAttrs(context.Background(), level, "request", attrs...)
	}
	if s.opt.Observer.End != nil {
		s.opt.Observer.End(r)
	}
}

// finish is why the first choice ended.
func (r *Record) finish() string {
	if r.Answer == nil || len(r.Answer.Finish) == 0 {
		return ""
	}
	return r.Answer.Finish[0]
}

// fail notes the error that a client gets.
func (r *Record) fail(e *openai.Error) {
	if r.Code = e.Code; r.Code == "" {
		r.Code = e.Type
	}
}
