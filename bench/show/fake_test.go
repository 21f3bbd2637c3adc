package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for both servers, so that the commands
// run as they do in earnest: child processes, flags, ports, sockets.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "--host") {
		log.Fatal(fakeServer(os.Args[1:]))
	}
	if len(os.Args) > 1 && (os.Args[1] == "version" || os.Args[1] == "--version") {
		fmt.Println("fake, version 1")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	fakeStep = 2 * time.Millisecond   // a token
	fakeWord = 100 * time.Microsecond // of prompt
)

// fake serves chat completions from slots and a bounded queue.
type fake struct {
	slots            chan struct{}
	queue            int64
	running, waiting atomic.Int64
}

func fakeServer(args []string) error {
	fs := flag.NewFlagSet("fake", flag.ContinueOnError)
	var listen, host, port string
	var slots, queue int
	fs.StringVar(&listen, "listen", "", "")
	fs.StringVar(&host, "host", "", "")
	fs.StringVar(&port, "port", "", "")
	fs.IntVar(&slots, "slots", 0, "")
	fs.IntVar(&slots, "np", 0, "")
	fs.IntVar(&queue, "queue", 1<<20, "")
	for _, other := range []string{"model", "m", "alias", "context", "c", "threads", "t", "layout", "lib", "target-itl", "fa"} {
		fs.String(other, "", "")
	}
	if args[0] == "serve" {
		args = args[1:]
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if listen == "" {
		listen = host + ":" + port
	}
	f := &fake{slots: make(chan struct{}, slots), queue: int64(queue)}
	ok := func(http.ResponseWriter, *http.Request) {}
	http.HandleFunc("/readyz", ok)
	http.HandleFunc("/health", ok)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"ok","running":%d,"waiting":%d}`, f.running.Load(), f.waiting.Load())
	})
	http.HandleFunc("/v1/chat/completions", f.complete)
	return http.ListenAndServe(listen, nil)
}

func (f *fake) complete(w http.ResponseWriter, r *http.Request) {
	var b struct {
		Messages []struct{ Content string }
		Tokens   int `json:"max_tokens"`
		Stream   bool
	}
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.waiting.Add(1) > f.queue {
		f.waiting.Add(-1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "queue full", http.StatusTooManyRequests)
		return
	}
	select {
	case f.slots <- struct{}{}:
		f.waiting.Add(-1)
	case <-r.Context().Done():
		f.waiting.Add(-1)
		return
	}
	f.running.Add(1)
	defer func() {
		f.running.Add(-1)
		<-f.slots
	}()
	words := 0
	for _, m := range b.Messages {
		words += len(strings.Fields(m.Content))
	}
	if !pause(r.Context(), time.Duration(words)*fakeWord) {
		return
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d}`, words, b.Tokens)
	for i := range b.Tokens {
		if !pause(r.Context(), fakeStep) {
			return
		}
		if b.Stream {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%s}}]}\n\n", strconv.Quote(fmt.Sprint(i, " ")))
			w.(http.Flusher).Flush()
		}
	}
	if b.Stream {
		fmt.Fprintf(w, "data: {\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
	} else {
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"all"},"finish_reason":"length"}],%s}`, usage)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
