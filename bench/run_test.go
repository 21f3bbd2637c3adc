package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"llamero/bench/benchtest"
)

// fake serves a benchtest server for one test.
func fake(t *testing.T, slots int) (*benchtest.Server, *Target) {
	t.Helper()
	s := benchtest.New(slots)
	return s, serve(t, s.ServeHTTP)
}

func TestEveryWorkloadRuns(t *testing.T) {
	s, target := fake(t, 3)
	for _, name := range Names() {
		o := Options{Seed: 3, Clients: 5, Words: 12, Tokens: 8, Turns: 3, Rate: 1000}
		w := mustNew(t, name, o)
		before := len(s.Asked())
		r := Run(t.Context(), target, w)
		if errs := r.Errors(); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
		if got := len(s.Asked()) - before; got != w.Requests() || len(r.Samples) != w.Requests() {
			t.Errorf("%s: %d requests, %d samples, want %d", name, got, len(r.Samples), w.Requests())
		}
		for _, a := range r.Samples {
			if want := w.Clients[a.Client][a.Turn].MaxTokens; a.Tokens != want || len(a.Chunks) != want || a.Cached != 1 {
				t.Errorf("%s: client %d: %+v, want %d tokens", name, a.Client, a, want)
			}
		}
	}
}

// A later turn is sent with the server's answers to those before it.
func TestTurnsCarryAnswers(t *testing.T) {
	s, target := fake(t, 2)
	o := Options{Seed: 1, Clients: 3, Words: 10, Tokens: 5, Turns: 3}
	w := mustNew(t, "turns", o)
	r := Run(t.Context(), target, w)
	for client, turns := range w.Clients {
		var want []benchtest.Message
		for turn, q := range turns {
			want = append(want, benchtest.Message(q.Messages[0]))
			if !slices.ContainsFunc(s.Asked(), func(a benchtest.Asked) bool { return slices.Equal(a.Messages, want) }) {
				t.Errorf("client %d, turn %d: nobody asked %v", client, turn, want)
			}
			want = append(want, benchtest.Message{Role: "assistant", Content: strings.Join(s.Answer(want, o.Tokens), "")})
		}
	}
	if again := Run(t.Context(), target, w); len(again.Samples) != 9 || again.Samples[8].Text != r.Samples[8].Text || again.Samples[8].Turn != 2 {
		t.Errorf("run again: %+v", again.Samples)
	}
}

func TestTurnsEndWithAFailedAnswer(t *testing.T) {
	asked := make(chan struct{}, 8)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.Error(w, "no", http.StatusInternalServerError)
	})
	follow := Request{Messages: []Message{{"user", "and?"}}, MaxTokens: 1, Follows: true}
	r := Run(t.Context(), target, Workload{Clients: [][]Request{{hello, follow, follow, hello}}})
	if len(asked) != 2 || len(r.Samples) != 4 || len(r.Errors()) != 4 {
		t.Errorf("%d requests, %d samples, errors %q; want the two that follow on nothing", len(asked), len(r.Samples), r.Errors())
	}
	if r.Samples[2].Turn != 2 || !strings.Contains(r.Samples[2].Err, "not sent") {
		t.Errorf("got %+v", r.Samples[2])
	}
}

// With one slot, requests of an open loop wait for each other; their latencies count
// from when they were due, not from when there was room.
func TestOpenLoopCountsFromTheDueTime(t *testing.T) {
	const step = 20 * time.Millisecond
	s, target := fake(t, 1)
	s.Step = step
	w := Workload{Name: "poisson"}
	for i := range 4 {
		r := hello
		r.At = time.Duration(i+1) * time.Millisecond
		w.Clients = append(w.Clients, []Request{r})
	}
	r := Run(t.Context(), target, w)
	for i, sample := range r.Samples {
		if sample.Start != w.Clients[i][0].At || sample.Sent < sample.Start {
			t.Errorf("request %d: due at %s, started %s, sent %s", i, w.Clients[i][0].At, sample.Start, sample.Sent)
		}
	}
	// Each takes three steps, so the last one's first token comes no sooner than ten
	// steps after the first was due.
	if ttft := r.Summary().TTFT.Max; ttft < 10*step-3*time.Millisecond {
		t.Errorf("longest TTFT %s", ttft)
	}
}

func TestRequestsThatAreNotDueAreLeftOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(w, text("a"), "[DONE]")
		cancel()
	})
	late := hello
	late.At = time.Hour
	if r := Run(ctx, target, Workload{Clients: [][]Request{{hello}, {late}}}); len(r.Samples) != 1 {
		t.Errorf("got %d samples", len(r.Samples))
	}
}

func TestConnect(t *testing.T) {
	s := benchtest.New(1)
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := Connect(t.Context(), "peer", server.URL+"/", "", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if err := c.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked := s.Asked(); len(asked) != 1 || asked[0].Model != "first" || asked[0].Key != "Bearer secret" {
		t.Errorf("asked %+v", asked)
	}
	if info := c.Info(); info.Name != "peer" || info.URL != server.URL || info.Model != "first" || info.Command != nil {
		t.Errorf("info %+v", info)
	}
	if c, err := Connect(t.Context(), "peer", server.URL, "second", ""); err != nil || c.Model != "second" {
		t.Errorf("a model of one's own: %+v, %v", c, err)
	}
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(`{"data":[]}`)) }))
	defer empty.Close()
	if _, err := Connect(t.Context(), "peer", empty.URL, "", ""); err == nil || !strings.Contains(err.Error(), "no model") {
		t.Errorf("no models: got %v", err)
	}
	if _, err := Connect(t.Context(), "peer", "http://127.0.0.1:1", "", ""); err == nil || !strings.Contains(err.Error(), "peer") {
		t.Errorf("nobody there: got %v", err)
	}
}
