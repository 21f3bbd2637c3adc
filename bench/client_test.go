package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	role  = `{"choices":[{"delta":{"role":"assistant","content":null},"finish_reason":null}]}`
	usage = `{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}`
)

func text(s string) string {
	return fmt.Sprintf(`{"choices":[{"delta":{"content":%q},"finish_reason":null}]}`, s)
}

func finish(reason string) string {
	return fmt.Sprintf(`{"choices":[{"delta":{},"finish_reason":%q}]}`, reason)
}

func stream(w http.ResponseWriter, data ...string) {
	for _, d := range data {
		fmt.Fprintf(w, "data: %s\n\n", d)
		w.(http.Flusher).Flush()
	}
}

// serve answers chat completions for one test.
func serve(t *testing.T, handler http.HandlerFunc) *Target {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	target := NewTarget("test", server.URL+"/", "a-model")
	t.Cleanup(target.HTTP.CloseIdleConnections)
	return target
}

var hello = Request{Messages: []Message{{"user", "hello"}}, MaxTokens: 3}

func TestRequestAsked(t *testing.T) {
	asked := make(chan map[string]any, 2)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var b map[string]any
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil || r.URL.Path != "/v1/chat/completions" ||
			r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		asked <- b
		stream(w, "[DONE]")
	})
	target.Key = "secret"
	target.Do(t.Context(), time.Now(), hello, nil)
	got, err := json.Marshal(<-asked)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"ignore_eos":true,"max_tokens":3,"messages":[{"content":"hello","role":"user"}],"model":"a-model",` +
		`"stream":true,"stream_options":{"include_usage":true},"temperature":0}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	whole := hello
	whole.Whole = true
	target.Do(t.Context(), time.Now(), whole, nil)
	if b := <-asked; b["stream"] != false || b["stream_options"] != nil {
		t.Errorf("not streamed: got %v", b)
	}
}

func TestStreamIsRead(t *testing.T) {
	// Each chunk waits until the one before has been stamped, so their order in
	// time is known without a sleep.
	read := make(chan struct{}, 1)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(w, role, text("one "))
		<-read
		stream(w, text("two"))
		<-read
		stream(w, finish("length"), usage, "[DONE]")
	})
	s := target.Do(t.Context(), time.Now(), hello, func() { read <- struct{}{} })
	if s.Err != "" {
		t.Fatal(s.Err)
	}
	if s.Text != "one two" || s.Finish != "length" || s.Prompt != 12 || s.Tokens != 3 || s.Cached != 4 || s.Status != 200 {
		t.Errorf("got %+v", s)
	}
	if len(s.Chunks) != 2 {
		t.Fatalf("the role and the end carry no text: got %d chunks", len(s.Chunks))
	}
	order := []time.Duration{0, s.Start, s.Sent, s.Answered, s.Chunks[0], s.Chunks[1], s.End}
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			t.Errorf("times are not in order: %v", order)
		}
	}
}

func TestTokensWithoutUsageAreChunks(t *testing.T) {
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(w, role, text("a"), text("b"), finish("length"), "[DONE]")
	})
	if s := target.Do(t.Context(), time.Now(), hello, nil); s.Tokens != 2 || s.Err != "" {
		t.Errorf("got %d tokens, error %q", s.Tokens, s.Err)
	}
}

func TestWholeAnswerIsRead(t *testing.T) {
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}`)
	})
	whole := hello
	whole.Whole = true
	s := target.Do(t.Context(), time.Now(), whole, nil)
	if s.Err != "" || s.Text != "hi" || s.Finish != "stop" || s.Prompt != 5 || s.Tokens != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestFailuresAreMeasured(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
		want    string
	}{
		{"refused", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "2")
			http.Error(w, "the queue is full", http.StatusTooManyRequests)
		}, 429, "the queue is full"},
		{"an error within the stream", func(w http.ResponseWriter, r *http.Request) {
			stream(w, text("a"), `{"error":{"message":"engine lost"}}`)
		}, 200, "engine lost"},
		{"a stream cut between events", func(w http.ResponseWriter, r *http.Request) {
			stream(w, text("a"))
		}, 200, "without [DONE]"},
		{"a connection cut", func(w http.ResponseWriter, r *http.Request) {
			stream(w, text("a"))
			panic(http.ErrAbortHandler)
		}, 200, "read the stream"},
		{"not JSON", func(w http.ResponseWriter, r *http.Request) {
			stream(w, "{")
		}, 200, "not JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.handler).Do(t.Context(), time.Now(), hello, nil)
			if s.Status != test.status || !strings.Contains(s.Err, test.want) {
				t.Errorf("got status %d and %q, want %d and %q", s.Status, s.Err, test.status, test.want)
			}
			if test.status == 429 && s.Retry != "2" {
				t.Errorf("Retry-After: got %q", s.Retry)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		target := serve(t, func(http.ResponseWriter, *http.Request) {})
		target.URL = "http://127.0.0.1:1"
		if s := target.Do(t.Context(), time.Now(), hello, nil); s.Status != 0 || s.Err == "" {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("a null error is none", func(t *testing.T) {
		target := serve(t, func(w http.ResponseWriter, r *http.Request) { stream(w, `{"error":null}`, "[DONE]") })
		if s := target.Do(t.Context(), time.Now(), hello, nil); s.Err != "" {
			t.Errorf("got %q", s.Err)
		}
	})
}

// A kept-alive connection that the server closes as it is used again is no failure of
// the request, and its time counts.
func TestAClosedConnectionIsReplaced(t *testing.T) {
	var closed atomic.Int64
	seen := map[string]int{} // requests by connection; one at a time
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, sent := r.Header["Idempotency-Key"]; sent {
			t.Error("the hint to the transport was sent")
		}
		if seen[r.RemoteAddr]++; seen[r.RemoteAddr] > 1 {
			closed.Add(1)
			panic(http.ErrAbortHandler)
		}
		stream(w, text("a"), "[DONE]")
	})
	for range 3 {
		if s := target.Do(t.Context(), time.Now(), hello, nil); s.Err != "" || s.Text != "a" || s.Reused {
			t.Errorf("got %+v", s)
		}
	}
	if closed.Load() != 2 {
		t.Errorf("%d connections were closed, want 2", closed.Load())
	}
}

func TestRunSendsAllAtOnceAndKeepsConnections(t *testing.T) {
	const clients = 8
	var waiting atomic.Int64
	all := make(chan struct{}, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		// No answer before all clients have asked: a client that waited for
		// another one would hang here.
		if waiting.Add(1)%clients == 0 {
			for range clients {
				all <- struct{}{}
			}
		}
		<-all
		stream(w, text("a"), text("b"), usage, "[DONE]")
	}
	target := serve(t, handler)
	w := mustNew(t, "disjoint", Options{Clients: clients, Words: 5, Tokens: 2})
	first := Run(t.Context(), target, w).Summary()
	if first.Requests != clients || first.Errors != 0 || first.Tokens != 3*clients || first.Prompt != 12*clients || first.Cached != 4*clients {
		t.Errorf("got %+v", first)
	}
	if first.Wall <= 0 || first.TokensPerSecond <= 0 || first.TTFT.P50 <= 0 || first.TTFT.Max > first.Wall {
		t.Errorf("times: got %+v", first)
	}
	if second := Run(t.Context(), target, w).Summary(); second.Reused != clients || second.Errors != 0 {
		t.Errorf("second run: %d of %d over kept-alive connections, %d errors", second.Reused, clients, second.Errors)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		// Without its body read, the test server does not notice a client leave.
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	w := Workload{Name: "two in a row", Clients: [][]Request{{hello, hello}}}
	r := Run(ctx, target, w)
	if len(r.Samples) != 1 || len(r.Errors()) != 1 {
		t.Errorf("got %d samples, errors %q; want the first request cut off and the second not sent", len(r.Samples), r.Errors())
	}
}
