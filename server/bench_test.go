package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/server/openai"
	"llamero/tokenizer"
	"llamero/tokenizer/tokenizertest"
)

// tokenStream gives one token a pull, and allocates nothing itself.
type tokenStream struct {
	left   int
	events [1]scheduler.Event
	tokens [1]engine.Sampled
}

func (s *tokenStream) Next(context.Context) ([]scheduler.Event, error) {
	if s.left == 0 {
		return nil, io.EOF
	}
	s.left--
	s.events[0] = scheduler.Event{Kind: scheduler.EventTokens, Tokens: s.tokens[:]}
	if s.left == 0 {
		s.events[0] = scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishLength}
	}
	return s.events[:], nil
}

func (s *tokenStream) Cancel()          {}
func (s *tokenStream) CancelChoice(int) {}

// nullConn takes all that is written.
type nullConn struct{ net.Conn }

func (nullConn) Write(p []byte) (int, error)      { return len(p), nil }
func (nullConn) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkBody is what a token costs from the mailbox to the socket.
func BenchmarkBody(b *testing.B) {
	srv, err := New(Options{
		Models: []Model{{Alias: "m", Tokenizer: tokenizertest.Bytes{V: tokenizertest.Vocab()}, Template: chatML(b), Loop: newFake(silent)}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	const tokens = 1000
	v := tokenizertest.Vocab()
	b.ReportAllocs()
	for b.Loop() {
		stream := &tokenStream{left: tokens + 1}
		stream.tokens[0].Token = 'x'
		j := &job{model: srv.order[0], params: openai.Params{N: 1, Stop: []string{"never"}}, prompts: []prompt{{tokens: []tokenizer.Token{1}}},
			head: openai.Head{Shape: openai.Chat, ID: "chatcmpl-0123456789abcdef01234567", Created: 1700000000, Model: "smollm2", Vocab: v}}
		w := srv.watch.add(nullConn{}, func() {})
		var rc fasthttp.RequestCtx
		rc.Init2(nullConn{}, nil, false)
		body := &body{srv: srv, ctx: &rc, gen: newGeneration(j, stream, &Record{Start: time.Now(), Answer: &Answer{}}, w.gone.Load), watch: w,
			pulse: newPulse(time.Minute), chunks: openai.NewChunks(&j.head, 1, false)}
		if _, err := body.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tokens), "ns/token")
}
