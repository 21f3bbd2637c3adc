package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// exchange is a request and what came of it.
type exchange struct {
	name    string
	path    string
	body    string
	header  map[string]string
	leave   bool // go away after the first token
	server  map[string]any
	answer  map[string]any // attributes wanted, nil: there must be no such span
	status  int
	id      string // the request's
	trace   string // of the answer's traceparent
	span    string
	sent    time.Time
	early   time.Time // a stream's: a quarter of its chunks were here
	text    []string  // by choice
	got     completion
	chunked bool
}

// completion is what the tests read of an answer or its chunks.
type completion struct {
	ID      string
	Choices []struct {
		Index   int
		Text    string
		Message struct{ Content string }
		Delta   struct{ Content string }
	}
	Usage struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
	}
}

// marker is in every prompt, and in no attribute unless asked for.
const marker = "zanzibar7731"

// The caller's trace, sampled and not.
const (
	callerTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	unseenTrace   = "5bf92f3577b34da6a3ce929d0e0e4737"
	callerSpan    = "00f067aa0ba902b7"
	chatPath      = "/v1/chat/completions"
	streamedCount = 48
)

// exchanges are requests of every kind; the last one is no good.
func exchanges() []*exchange {
	chat := func(more string) string {
		return `{"model":"` + model + `","ignore_eos":true,"messages":[{"role":"user","content":"Say ` + marker + `."}],` + more + `}`
	}
	text := func(more string) string {
		return `{"model":"` + model + `","ignore_eos":true,"prompt":"Once ` + marker + `",` + more + `}`
	}
	ok := func(path string) map[string]any {
		return map[string]any{"http.request.method": "POST", "http.route": path, "url.path": path,
			"http.response.status_code": int64(200), "server.address": "127.0.0.1"}
	}
	length := []any{"length"}
	return []*exchange{
		{name: "streamed", path: chatPath, chunked: true, server: ok(chatPath),
			body: chat(`"stream":true,"stream_options":{"include_usage":true},"max_tokens":48,"temperature":0.5,"top_p":0.75,"top_k":40,"seed":7,
				"stop":["\u0001\u0002"],"frequency_penalty":0.25,"presence_penalty":0.125`),
			answer: map[string]any{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "llamero", "gen_ai.request.model": model,
				"gen_ai.response.model": model, "gen_ai.request.max_tokens": int64(streamedCount), "gen_ai.request.temperature": 0.5,
				"gen_ai.request.top_p": 0.75, "gen_ai.request.top_k": int64(40), "gen_ai.request.seed": int64(7), "gen_ai.request.stream": true,
				"gen_ai.request.stop_sequences": []any{"\u0001\u0002"}, "gen_ai.request.frequency_penalty": 0.25,
				"gen_ai.request.presence_penalty": 0.125, "gen_ai.response.finish_reasons": length,
				"gen_ai.usage.output_tokens": int64(streamedCount)}},
		{name: "whole", path: chatPath, server: ok(chatPath),
			body: chat(`"max_completion_tokens":8,"temperature":0`),
			answer: map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.max_tokens": int64(8), "gen_ai.request.temperature": 0.0,
				"gen_ai.request.stream": false, "gen_ai.response.finish_reasons": length, "gen_ai.usage.output_tokens": int64(8)}},
		{name: "two choices", path: "/v1/completions", server: ok("/v1/completions"),
			body: text(`"n":2,"max_tokens":5,"temperature":1`),
			answer: map[string]any{"gen_ai.operation.name": "text_completion", "gen_ai.request.choice.count": int64(2),
				"gen_ai.response.finish_reasons": []any{"length", "length"}, "gen_ai.usage.output_tokens": int64(10)}},
		{name: "in a caller's trace", path: chatPath, server: ok(chatPath),
			header: map[string]string{"traceparent": "00-" + callerTrace + "-" + callerSpan + "-01"},
			body:   chat(`"max_tokens":4`),
			answer: map[string]any{"gen_ai.usage.output_tokens": int64(4)}},
		{name: "wrong", path: chatPath, body: chat(`"temperature":9`),
			server: map[string]any{"http.request.method": "POST", "http.route": chatPath, "http.response.status_code": int64(400)}},
	}
}

// A real collector receives what the gateway exports, over both protocols: the spans
// of every kind of request and the GenAI histograms. Nobody's words are in it, unless
// the operator wants them there.
func TestTelemetry(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			c := collect(t)
			endpoint, content := "http://"+c.grpc, false
			if protocol != "grpc" {
				endpoint, content = "http://"+c.http, true
			}
			env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol, "OTEL_SERVICE_NAME=llamero-e2e"}
			if content {
				env = append(env, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true")
			}
			g := own(t, env, "--slots", "2", "--context", "1024")
			all := exchanges()
			for _, x := range all {
				x.run(t, g)
			}
			unseen := &exchange{name: "in a trace that is not sampled", path: chatPath, body: all[1].body,
				header: map[string]string{"traceparent": "00-" + unseenTrace + "-" + callerSpan + "-00"}}
			unseen.run(t, g)
			gone := &exchange{name: "left", path: "/v1/completions", leave: true, chunked: true,
				body: `{"model":"` + model + `","ignore_eos":true,"prompt":"Once ` + marker + `","stream":true,"max_tokens":900}`}
			gone.run(t, g)

			// What has not been sent yet is sent at the end.
			g.terminate(t)
			c.terminate(t)
			if strings.Contains(g.log.String(), "telemetry was not exported") {
				t.Errorf("the gateway could not export:\n%s", g.log)
			}
			spans := c.spans(t)
			for _, x := range all {
				t.Run(x.name, func(t *testing.T) { x.check(t, spans, content) })
			}
			t.Run(gone.name, func(t *testing.T) { gone.checkGone(t, spans) })
			for _, s := range spans {
				if s.service != "llamero-e2e" {
					t.Errorf("%s is of service %q", s.name, s.service)
				}
				if s.trace == unseenTrace {
					t.Errorf("%s is of a trace that its caller does not sample", s.name)
				}
			}
			checkHistograms(t, c.points(t))
			if c.holds(marker) != content {
				t.Errorf("prompts are exported: %v, wanted: %v", !content, content)
			}
		})
	}
}

// run sends the request and notes what trace the answer tells of.
func (x *exchange) run(t *testing.T, g *gateway) {
	t.Helper()
	parts := strings.Split(x.send(t, g).Get("Traceparent"), "-")
	if len(parts) != 4 {
		t.Fatalf("%s: traceparent is %q", x.name, parts)
	}
	x.trace, x.span = parts[1], parts[2]
}

// send sends the request, reads the answer, or as much as it wants of it, and returns
// its header.
func (x *exchange) send(t *testing.T, g *gateway) http.Header {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+x.path, strings.NewReader(x.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range x.header {
		req.Header.Set(name, value)
	}
	x.sent = time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	defer resp.Body.Close()
	x.status, x.id = resp.StatusCode, resp.Header.Get("X-Request-Id")
	if x.chunked {
		x.read(t, resp.Body)
		return resp.Header
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &x.got)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", x.name, err, b)
	}
	x.text = make([]string, len(x.got.Choices))
	for i, choice := range x.got.Choices {
		if choice.Index != i {
			t.Fatalf("%s: choice %d is at %d", x.name, choice.Index, i)
		}
		x.text[i] = choice.Text + choice.Message.Content
	}
	return resp.Header
}

// read reads a stream of one choice.
func (x *exchange) read(t *testing.T, body io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(body)
	var text strings.Builder
	chunks := 0
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		if chunks++; chunks == streamedCount/4 {
			x.early = time.Now()
		}
		x.got.Choices = nil
		if err := json.Unmarshal([]byte(data), &x.got); err != nil {
			t.Fatalf("%s: %v\n%s", x.name, err, data)
		}
		for _, choice := range x.got.Choices {
			text.WriteString(choice.Delta.Content)
		}
		if x.leave {
			return
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	if x.early.IsZero() {
		t.Errorf("%s: only %d chunks for %d tokens", x.name, chunks, streamedCount)
	}
	x.text = []string{text.String()}
}
