package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	maxAnswer   = 16 << 20 // bytes of an answer that is not streamed
	maxError    = 4 << 10  // bytes of an error's body that are kept
)

// Target is a server to measure. Its connections are kept alive from one run to
// the next. It is safe for concurrent use.
type Target struct {
	Name  string
	URL   string // without /v1: http://127.0.0.1:8080
	Model string
	Key   string // API key; empty: none is sent
	HTTP  *http.Client
}

// NewTarget returns a target that keeps up to MaxClients connections open.
func NewTarget(name, url, model string) *Target {
	return &Target{Name: name, URL: strings.TrimRight(url, "/"), Model: model, HTTP: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConns:        MaxClients,
			MaxIdleConnsPerHost: MaxClients,
			IdleConnTimeout:     10 * time.Minute,
			DisableCompression:  true,
		},
	}}
}

// Sample is what became of one request. All times count from the start of the
// run.
type Sample struct {
	Client   int             `json:"client"`
	Turn     int             `json:"turn"`        // index among the client's requests
	Start    time.Duration   `json:"start_ns"`    // when the request was due
	Sent     time.Duration   `json:"sent_ns"`     // the request's last byte was written
	Answered time.Duration   `json:"answered_ns"` // the answer's first byte came
	Chunks   []time.Duration `json:"chunks_ns"`   // one for each chunk that carries text
	End      time.Duration   `json:"end_ns"`
	Text     string          `json:"text"`
	Finish   string          `json:"finish"` // finish_reason
	Prompt   int             `json:"prompt"` // tokens, from usage
	Cached   int             `json:"cached"` // of Prompt, those the server did not compute
	Tokens   int             `json:"tokens"` // generated, from usage; else the count of Chunks
	Reused   bool            `json:"reused"` // sent over a kept-alive connection
	Status   int             `json:"status"` // 0: no answer came
	Retry    string          `json:"retry"`  // Retry-After
	Err      string          `json:"err"`    // empty: the answer is whole
}

type body struct {
	Model         string         `json:"model"`
	Messages      []Message      `json:"messages"`
	MaxTokens     int            `json:"max_tokens"`
	Temperature   float64        `json:"temperature"`
	IgnoreEOS     bool           `json:"ignore_eos"`
	Stream        bool           `json:"stream"`
	StreamOptions *streamOptions `json:"stream_options,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// answer is a chunk of a stream or, with Message, a whole answer.
type answer struct {
	Choices []struct {
		Delta   content `json:"delta"`
		Message content `json:"message"`
		Finish  string  `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt  int `json:"prompt_tokens"`
		Tokens  int `json:"completion_tokens"`
		Details struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type content struct {
	Content string `json:"content"`
}

// Do sends one request and reads its answer to the end. Times count from
// origin. chunk, unless nil, is called as each chunk with text arrives. What
// goes wrong is in Sample.Err: a failed request is a measurement too. Whoever calls
// waits until the request is due.
func (t *Target) Do(ctx context.Context, origin time.Time, r Request, chunk func()) (s Sample) {
	s.Start = time.Since(origin)
	if r.At > 0 {
		s.Start = r.At
	}
	defer func() { s.End = time.Since(origin) }()
	if err := t.do(ctx, origin, r, chunk, &s); err != nil {
		s.Err = err.Error()
	}
	return s
}

func (t *Target) do(ctx context.Context, origin time.Time, r Request, chunk func(), s *Sample) error {
	b := body{Model: t.Model, Messages: r.Messages, MaxTokens: r.MaxTokens, IgnoreEOS: true, Stream: !r.Whole}
	if b.Stream {
		b.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	payload, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	// The transport's hooks run on its own goroutines and may outlive a failed
	// request, so they report through a channel instead of writing to s.
	sent, answered := make(chan time.Duration, 8), make(chan time.Duration, 8)
	trace := &httptrace.ClientTrace{
		GotConn:              func(c httptrace.GotConnInfo) { s.Reused = c.Reused },
		WroteRequest:         func(httptrace.WroteRequestInfo) { offer(sent, time.Since(origin)) },
		GotFirstResponseByte: func() { offer(answered, time.Since(origin)) },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost,
		t.URL+"/v1/chat/completions", bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	// A server may close a kept-alive connection in the moment in which it is used
	// again. An empty value is not sent: it tells the transport that it may ask once more.
	req.Header["Idempotency-Key"] = nil
	t.authorize(req)
	resp, err := t.HTTP.Do(req)
	// An answer can overtake the hook that reports the request as sent.
	s.Sent, s.Answered = max(s.Start, last(sent)), last(answered)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.Status, s.Retry = resp.StatusCode, resp.Header.Get("Retry-After")
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	if r.Whole {
		return s.readWhole(resp.Body)
	}
	return s.readStream(resp.Body, origin, chunk)
}

func (t *Target) authorize(r *http.Request) {
	if t.Key != "" {
		r.Header.Set("Authorization", "Bearer "+t.Key)
	}
}

// FirstModel asks the server which models it has and returns the first.
func (t *Target) FirstModel(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+"/v1/models", nil)
	if err != nil {
		return "", fmt.Errorf("make the request: %w", err)
	}
	t.authorize(req)
	resp, err := t.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct{ ID string }
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", req.URL, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&list); err != nil {
		return "", fmt.Errorf("GET %s: %w", req.URL, err)
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", fmt.Errorf("GET %s: it lists no model", req.URL)
	}
	return list.Data[0].ID, nil
}

func (s *Sample) readWhole(r io.Reader) error {
	var a answer
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(&a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return s.take(a)
}

func (s *Sample) readStream(r io.Reader, origin time.Time, chunk func()) error {
	var text strings.Builder
	defer func() { s.Text = text.String() }()
	counted := false
	for stream := newEvents(r); ; {
		data, err := stream.next()
		at := time.Since(origin)
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended without [DONE]")
		}
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if string(data) == "[DONE]" {
			// Read to the body's end, or the connection is not kept alive.
			_, err := io.Copy(io.Discard, io.LimitReader(r, maxLine))
			if !counted {
				s.Tokens = len(s.Chunks)
			}
			return err
		}
		var a answer
		if err := json.Unmarshal(data, &a); err != nil {
			return fmt.Errorf("chunk is not JSON: %w", err)
		}
		if err := s.take(a); err != nil {
			return err
		}
		counted = counted || a.Usage != nil
		if len(a.Choices) > 0 && a.Choices[0].Delta.Content != "" {
			s.Chunks = append(s.Chunks, at)
			text.WriteString(a.Choices[0].Delta.Content)
			if chunk != nil {
				chunk()
			}
		}
	}
}

// take notes what an answer or a chunk says beside a stream's text.
func (s *Sample) take(a answer) error {
	if len(a.Error) > 0 && string(a.Error) != "null" {
		return fmt.Errorf("error in the answer: %s", a.Error[:min(len(a.Error), maxError)])
	}
	if len(a.Choices) > 0 {
		if a.Choices[0].Finish != "" {
			s.Finish = a.Choices[0].Finish
		}
		if a.Choices[0].Message.Content != "" {
			s.Text = a.Choices[0].Message.Content
		}
	}
	if a.Usage != nil {
		s.Prompt, s.Tokens, s.Cached = a.Usage.Prompt, a.Usage.Tokens, a.Usage.Details.Cached
	}
	return nil
}

func offer(c chan<- time.Duration, d time.Duration) {
	select {
	case c <- d:
	default:
	}
}

// last empties a channel and returns what came last, 0 if nothing did: a
// request that the transport sent again was answered the last time.
func last(c <-chan time.Duration) (d time.Duration) {
	for {
		select {
		case d = <-c:
		default:
			return d
		}
	}
}
