package benchtest

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server answers chat completions from slots and a bounded queue. Its fields are set
// before it serves.
type Server struct {
	Queue int           // requests that may wait; more get 429
	Step  time.Duration // a token takes
	Word  time.Duration // a word of a prompt takes
	// Twist, unless 0, changes what is answered from that token on: a server that is
	// not quite the same.
	Twist int
	// Keeps, unless empty, is a folder in which servers remember what they were asked:
	// a prompt that one of them has had takes no time, and is cached.
	Keeps string
	Log   *slog.Logger // what becomes of each request; nil: nothing

	slots            chan struct{}
	running, waiting atomic.Int64

	mu    sync.Mutex
	asked []Asked
}

// Asked is a request that was made.
type Asked struct {
	At        time.Time
	Model     string
	Messages  []Message
	MaxTokens int    `json:"max_tokens"`
	IgnoreEOS bool   `json:"ignore_eos"`
	Stream    bool   `json:"stream"`
	Key       string `json:"-"`
}

// Message is one of a chat.
type Message struct{ Role, Content string }

// New returns a server with so many slots and an endless queue.
func New(slots int) *Server {
	return &Server{Queue: 1 << 30, slots: make(chan struct{}, slots)}
}

// Asked returns the requests that were made so far.
func (s *Server) Asked() []Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Asked(nil), s.asked...)
}

// Answer is what the server says to a conversation.
func (s *Server) Answer(messages []Message, tokens int) []string {
	h := fnv.New64a()
	words := make([]string, tokens)
	for _, m := range messages {
		fmt.Fprintf(h, "%s\x00%s\x00", m.Role, m.Content)
	}
	for i := range words {
		if s.Twist > 0 && i == s.Twist {
			h.Write([]byte("twist"))
		}
		h.Write([]byte{byte(i)})
		words[i] = strconv.FormatUint(h.Sum64()%1000, 10) + " "
	}
	return words
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/readyz", "/health":
	case "/healthz":
		fmt.Fprintf(w, `{"status":"ok","running":%d,"waiting":%d}`, s.running.Load(), s.waiting.Load())
	case "/v1/models":
		io.WriteString(w, `{"object":"list","data":[{"id":"first"},{"id":"second"}]}`)
	case "/metrics":
		s.metrics(w)
	case "/v1/chat/completions":
		start := time.Now()
		status := s.complete(w, r)
		if s.Log != nil {
			s.Log.Info("request", "path", r.URL.Path, "status", status, "duration", time.Since(start))
		}
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request) (status int) {
	asked := Asked{At: time.Now(), Key: r.Header.Get("Authorization")}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return http.StatusBadRequest
	}
	s.mu.Lock()
	s.asked = append(s.asked, asked)
	s.mu.Unlock()
	if s.waiting.Add(1) > int64(s.Queue) {
		s.waiting.Add(-1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "queue full", http.StatusTooManyRequests)
		return http.StatusTooManyRequests
	}
	const gone = 499
	select {
	case s.slots <- struct{}{}:
		s.waiting.Add(-1)
	case <-r.Context().Done():
		s.waiting.Add(-1)
		return gone
	}
	s.running.Add(1)
	defer func() {
		s.running.Add(-1)
		<-s.slots
	}()
	words := 0
	for _, m := range asked.Messages {
		words += len(strings.Fields(m.Content))
	}
	cached, known := 1, s.keep(asked.Messages)
	if s.Keeps != "" {
		cached = 0
	}
	if known {
		cached = words
	} else if !pause(r.Context(), time.Duration(words)*s.Word) {
		return gone
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`, words, asked.MaxTokens, cached)
	answer := s.Answer(asked.Messages, asked.MaxTokens)
	for _, word := range answer {
		if !pause(r.Context(), s.Step) {
			return gone
		}
		if asked.Stream {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", word)
			w.(http.Flusher).Flush()
		}
	}
	if asked.Stream {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
	} else {
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%q},"finish_reason":"length"}],%s}`, strings.Join(answer, ""), usage)
	}
	return http.StatusOK
}

// keep notes that a prompt was asked, and says whether it had been before.
func (s *Server) keep(messages []Message) (known bool) {
	if s.Keeps == "" {
		return false
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", messages)
	f, err := os.OpenFile(filepath.Join(s.Keeps, strconv.FormatUint(h.Sum64(), 16)), os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		f.Close()
	}
	return err != nil
}

// metrics counts what was kept, a page each, as Llamero does on its page.
func (s *Server) metrics(w io.Writer) {
	kept, _ := os.ReadDir(s.Keeps)
	fmt.Fprintf(w, "llamero_cache_pages{model_name=\"m\",state=\"free\"} 1000\n"+
		"llamero_cache_pages{model_name=\"m\",state=\"used\"} %d\nllamero_redis_pages_total{model_name=\"m\",op=\"get\"} 0\n"+
		"llamero_redis_pages_total{model_name=\"m\",op=\"put\"} %d\n", len(kept), len(kept))
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
