package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Record is what there is to say about one request at its end.
type Record struct {
	ID     string // x-request-id
	Method string
	Path   string // of the route; the given path where none matched
	Status int    // 499 where the client went before its answer was whole
	Model  string // the alias, "" where none was reached
	Key    string // the API key's name
	Stream bool
	Finish string // why the first choice ended
	Err    error  // what went wrong inside, never shown to the client

	PromptTokens, CachedTokens, OutputTokens int

	Start    time.Time
	Admitted time.Duration // from Start to the first slot; 0: never
	TTFT     time.Duration // from Start to the first token; 0: never
	Duration time.Duration // from Start to the last byte
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
	case r.Path == pathHealth || r.Path == pathReady:
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
				slog.Int("output_tokens", r.OutputTokens), slog.Duration("ttft", r.TTFT), slog.String("finish", r.Finish))
		}
		attrs = append(attrs, slog.Duration("duration", r.Duration))
		if r.Err != nil {
			attrs = append(attrs, slog.Any("error", r.Err))
		}
		s.log.LogAttrs(context.Background(), level, "request", attrs...)
	}
	if s.opt.OnEnd != nil {
		s.opt.OnEnd(*r)
	}
}
