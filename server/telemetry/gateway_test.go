package telemetry_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/scheduler/loop"
	"llamero/server"
	"llamero/server/telemetry"
	"llamero/tokenizer/template"
	"llamero/tokenizer/tokenizertest"
)

// gateway serves the fake engine, which takes no time to speak of, on a port.
func gateway(b *testing.B, opt telemetry.Options) (addr string) {
	b.Helper()
	opt.Getenv = func(string) string { return "" }
	tel, err := telemetry.New(b.Context(), opt)
	if err != nil {
		b.Fatal(err)
	}
	limits := enginetest.DefaultLimits(engine.Split)
	limits.Slots, limits.SlotTokens, limits.Vocab = 64, 1024, tokenizertest.Len
	limits.PoolTokens = limits.Slots * limits.SlotTokens
	vocab := tokenizertest.Vocab()
	chat, err := template.ForVocab("{% for m in messages %}{{ m.content }}{% endfor %}", vocab)
	if err != nil {
		b.Fatal(err)
	}
	observer, watch := tel.Model("m")
	l, err := loop.NewGroup([]engine.Engine{enginetest.NewFake(limits)}, loop.Options{Calibrate: -1, Observer: observer})
	if err != nil {
		b.Fatal(err)
	}
	watch(l)
	srv, err := server.New(server.Options{
		Models: []server.Model{{Alias: "m", Tokenizer: tokenizertest.Bytes{V: vocab}, Template: server.FromTemplate(chat), Loop: server.FromLoop(l)}},
		Logger: slog.New(slog.DiscardHandler), Observer: tel.Requests(), Metrics: tel.Handler(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
		<-served
	})
	return ln.Addr().String()
}

// client keeps one connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(b *testing.B, addr string) *client {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReaderSize(c, 64<<10)}
}

func post(tokens int) string {
	body := fmt.Sprintf(`{"model":"m","stream":true,"ignore_eos":true,"seed":1,"max_tokens":%d,"messages":[{"role":"user","content":"How do you do?"}]}`, tokens)
	return fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// do sends a request and reads to the end of its chunked answer.
func (c *client) do(request string) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(status), "HTTP/1.1 200") {
		return fmt.Errorf("%q", status)
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line) == "0\r\n" {
			_, err := c.r.ReadSlice('\n')
			return err
		}
	}
}

var telemetries = map[string]telemetry.Options{"off": {}, "metrics": {Metrics: true}}

// BenchmarkGateway is the whole way on the fake engine, from socket to socket,
// clients included: 64 streams of 256 tokens at a time.
func BenchmarkGateway(b *testing.B) {
	for _, name := range []string{"off", "metrics"} {
		b.Run("telemetry="+name, func(b *testing.B) {
			const clients, tokens = 64, 256
			addr := gateway(b, telemetries[name])
			conns := make([]*client, clients)
			for i := range conns {
				conns[i] = dial(b, addr)
			}
			request := post(tokens)
			done := make(chan error, clients)
			b.ReportAllocs()
			for b.Loop() {
				for _, c := range conns {
					go func() { done <- c.do(request) }()
				}
				for range conns {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*clients*tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkRequest is what a request of one token takes, from socket to socket.
func BenchmarkRequest(b *testing.B) {
	for _, name := range []string{"off", "metrics"} {
		b.Run("telemetry="+name, func(b *testing.B) {
			c := dial(b, gateway(b, telemetries[name]))
			request := post(1)
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if err := c.do(request); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
		})
	}
}
