package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
	"llamero/tokenizer/template"
	"llamero/tokenizer/tokenizertest"
)

// fakeBackend hands each request to a script, which plays the loop's part.
type fakeBackend struct {
	limits   engine.Limits
	capacity int
	busy     error                         // what Hold says
	submit   func(scheduler.Request) error // refuses a request, if not nil
	script   func(*fakeStream)             // runs on a goroutine of its own

	mu      sync.Mutex
	ready   bool
	reqs    []scheduler.Request
	streams []*fakeStream
	more    chan struct{} // capacity 1: a request has come
}

func newFake(script func(*fakeStream)) *fakeBackend {
	return &fakeBackend{capacity: 1000, limits: engine.Limits{Slots: 4, SlotTokens: 512, Vocab: tokenizertest.Len}, script: script,
		ready: true, more: make(chan struct{}, 1)}
}

func (b *fakeBackend) Submit(r scheduler.Request, _ time.Duration) (Stream, error) {
	if b.submit != nil {
		if err := b.submit(r); err != nil {
			return nil, err
		}
	}
	s := &fakeStream{req: r, wake: make(chan struct{}, 1), cancelled: make(chan struct{}), timedOut: make(chan struct{}, 1), left: max(1, r.Choices)}
	s.ended = make([]bool, s.left)
	b.mu.Lock()
	b.reqs = append(b.reqs, r)
	b.streams = append(b.streams, s)
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	go b.script(s)
	return s, nil
}

func (b *fakeBackend) Hold() (func(), error) { return func() {}, b.busy }

func (b *fakeBackend) Capacity() int { return b.capacity }

func (b *fakeBackend) Limits() engine.Limits { return b.limits }

func (b *fakeBackend) Time(at scheduler.Tick) time.Time { return time.Unix(1700000000, int64(at)) }

func (b *fakeBackend) Stats() loop.Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return loop.Stats{Ready: b.ready}
}

func (b *fakeBackend) requests() []scheduler.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]scheduler.Request(nil), b.reqs...)
}

func (b *fakeBackend) stream(t *testing.T, i int) *fakeStream {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		b.mu.Lock()
		if i < len(b.streams) {
			defer b.mu.Unlock()
			return b.streams[i]
		}
		b.mu.Unlock()
		select {
		case <-b.more:
		case <-deadline:
			t.Fatal("no request came")
		}
	}
}

// fakeStream is a mailbox as loop.Stream's, filled by a script.
type fakeStream struct {
	req       scheduler.Request
	wake      chan struct{}
	cancelled chan struct{} // closed by the first Cancel
	timedOut  chan struct{} // capacity 1: a Next has ended with its context

	mu      sync.Mutex
	events  []scheduler.Event
	left    int
	ended   []bool
	choices []int // cancelled ones, in order
	once    sync.Once
}

// put adds events, all at once.
func (s *fakeStream) put(events ...scheduler.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if s.ended[e.Choice] {
			continue
		}
		s.events = append(s.events, e)
		if e.Kind == scheduler.EventDone {
			s.ended[e.Choice] = true
			s.left--
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *fakeStream) Next(ctx context.Context) ([]scheduler.Event, error) {
	for {
		s.mu.Lock()
		events, left := s.events, s.left
		s.events = nil
		s.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		if left == 0 {
			return nil, io.EOF
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			select {
			case s.timedOut <- struct{}{}:
			default:
			}
			return nil, ctx.Err()
		}
	}
}

func (s *fakeStream) Cancel() {
	s.once.Do(func() { close(s.cancelled) })
	for i := range s.ended {
		s.done(i, scheduler.FinishCancel)
	}
}

func (s *fakeStream) CancelChoice(i int) {
	s.mu.Lock()
	s.choices = append(s.choices, i)
	s.mu.Unlock()
	s.done(i, scheduler.FinishCancel)
}

func (s *fakeStream) cancelledChoices() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int(nil), s.choices...)
}

// What scripts say.

func (s *fakeStream) admit(cached int) {
	for i := range s.ended {
		s.put(scheduler.Event{Choice: i, Kind: scheduler.EventAdmitted, Cached: cached})
	}
}

func (s *fakeStream) done(choice int, f scheduler.Finish) {
	s.put(scheduler.Event{Choice: choice, Kind: scheduler.EventDone, Finish: f})
}

// say puts text as tokens in one event.
func (s *fakeStream) say(choice int, text string) { s.put(s.tokens(choice, text)) }

func (s *fakeStream) tokens(choice int, text string) scheduler.Event {
	toks := make([]engine.Sampled, len(text))
	for i := range toks {
		toks[i] = s.sampled(engine.Token(text[i]))
	}
	return scheduler.Event{Choice: choice, Kind: scheduler.EventTokens, Tokens: toks}
}

// sampled gives token t the log-probability -t/128, if asked for one, and
// alternatives that count on from it.
func (s *fakeStream) sampled(t engine.Token) engine.Sampled {
	out := engine.Sampled{Token: t}
	if k := int(s.req.Sampling.LogProbs); k > 0 {
		out.LogProb = -float32(t) / 128
		for i := range k - 1 {
			out.Top = append(out.Top, engine.TopProb{Token: t + engine.Token(i), LogProb: out.LogProb - float32(i)})
		}
	}
	return out
}

// answer says the same to every choice, in the given parts, one event each, and all
// of it in one pull, so that chunks do not depend on timing.
func answer(f scheduler.Finish, parts ...string) func(*fakeStream) {
	return func(s *fakeStream) {
		var events []scheduler.Event
		for i := range s.ended {
			events = append(events, scheduler.Event{Choice: i, Kind: scheduler.EventAdmitted, Cached: 2})
		}
		if s.req.PromptScores {
			var scores []engine.Sampled
			for _, t := range s.req.Prompt[1:] {
				scores = append(scores, s.sampled(t))
			}
			half := len(scores) / 2
			events = append(events, scheduler.Event{Kind: scheduler.EventTokens, Scores: scores[:half]},
				scheduler.Event{Kind: scheduler.EventTokens, Scores: scores[half:]})
		}
		for i := range s.ended {
			if s.req.MaxTokens >= 0 {
				for _, p := range parts {
					events = append(events, s.tokens(i, p))
				}
			}
			events = append(events, scheduler.Event{Choice: i, Kind: scheduler.EventDone, Finish: f})
		}
		s.put(events...)
	}
}

// silent is a script of a request that waits for ever.
func silent(*fakeStream) {}

// testServer is a Server on a port of its own.
type testServer struct {
	*Server
	url  string
	addr string
	logs *syncBuffer

	mu      sync.Mutex
	records []Record
	ended   chan struct{} // capacity 1: there is a new record
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func chatML(t testing.TB) ChatTemplate {
	t.Helper()
	tmpl, err := template.ForVocab("", tokenizertest.Vocab())
	if err != nil {
		t.Fatal(err)
	}
	return FromTemplate(tmpl)
}

func start(t testing.TB, b Backend, change func(*Options)) *testServer {
	t.Helper()
	ts := &testServer{logs: &syncBuffer{}, ended: make(chan struct{}, 1)}
	opt := Options{
		Models: []Model{{Alias: "m", Tokenizer: tokenizertest.Bytes{V: tokenizertest.Vocab()}, Template: chatML(t), Loop: b, Created: time.Unix(1700000000, 0)}},
		Logger: slog.New(slog.NewTextHandler(ts.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observer: Observer{End: func(r *Record) {
			ts.mu.Lock()
			ts.records = append(ts.records, *r)
			ts.mu.Unlock()
			select {
			case ts.ended <- struct{}{}:
			default:
			}
		}},
		WatchPeriod: 20 * time.Millisecond,
	}
	if change != nil {
		change(&opt)
	}
	var err error
	if ts.Server, err = New(opt); err != nil {
		t.Fatal(err)
	}
	ts.Server.now = func() time.Time { return time.Unix(1700000001, 0) }
	ts.Server.newID = func(prefix string) string { return prefix + "1" }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts.addr = ln.Addr().String()
	ts.url = "http://" + ts.addr
	served := make(chan error, 1)
	go func() { served <- ts.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = ts.Shutdown(ctx) // reports what it had to cut off, which tests leave behind
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ts
}

// record waits for the n-th request to end, counted from 0.
func (ts *testServer) record(t testing.TB, n int) Record {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		ts.mu.Lock()
		if n < len(ts.records) {
			defer ts.mu.Unlock()
			return ts.records[n]
		}
		ts.mu.Unlock()
		select {
		case <-ts.ended:
		case <-deadline:
			t.Fatalf("request %d has not ended", n)
		}
	}
}

// post sends a body and returns status, headers and the whole answer.
func (ts *testServer) post(t testing.TB, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	return ts.do(t, "POST", path, body, header...)
}

func (ts *testServer) do(t testing.TB, method, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, ts.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v after %q", err, b)
	}
	return resp.StatusCode, resp.Header, string(b)
}

const hello = `{"model":"m","messages":[{"role":"user","content":"hi"}]%s}`

func helloWith(extra string) string { return fmt.Sprintf(hello, extra) }
