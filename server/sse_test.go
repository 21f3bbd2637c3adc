package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/server/openai"
)

const ssePre = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000001,"model":"m","choices":[`

func delta(text string) string {
	return ssePre + `{"index":0,"delta":{"content":"` + text + `"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
}

// One pull of the mailbox is one write, and a character or a possible stop string is
// never cut.
func TestStreamFraming(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	c.send(t, rawPost(pathChat, helloWith(`,"stream":true,"stop":["END","dx"]`)))
	s := fake.stream(t, 0)
	s.admit(0)
	head := c.head(t)
	for _, h := range []string{"HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Cache-Control: no-cache", "X-Accel-Buffering: no", "Transfer-Encoding: chunked", "X-Request-Id: req_"} {
		if !strings.Contains(head, h) {
			t.Errorf("the header lacks %q:\n%s", h, head)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := c.chunk(t); got != want {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
	expect(ssePre + `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n")
	s.say(0, "a\n\xf0\x9f")
	expect(delta(`a\n`))
	s.say(0, "\xa6\x99b")
	expect(delta("🦙b"))
	s.put(s.tokens(0, "c"), s.tokens(0, "d"))
	expect(delta("c")) // d may begin a stop string
	s.say(0, "eEN")
	expect(delta("de"))
	s.say(0, "Dtail")
	expect(ssePre + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}` + "\n\n" + openai.Done)
	expect("")
	if got := s.cancelledChoices(); len(got) != 1 || got[0] != 0 {
		t.Errorf("cancelled choices %v, want [0]", got)
	}
	r := ts.record(t, 0)
	if r.Status != 200 || r.finish() != "stop" || r.OutputTokens != 13 || r.TTFT == 0 || r.Answer.Admitted.IsZero() {
		t.Errorf("record %+v", r)
	}
}

// A choice that has ended says nothing more while the others go on.
func TestStreamChoices(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	c := ts.dial(t)
	c.send(t, rawPost(pathText, `{"prompt":"p","n":2,"stream":true,"stop":"x"}`))
	s := fake.stream(t, 0)
	s.admit(0)
	c.head(t)
	choice := func(i int, text, finish string) string {
		return fmt.Sprintf(`data: {"id":"cmpl-1","object":"text_completion","created":1700000001,"model":"m","choices":[{"index":%d,"text":"%s","logprobs":null,"finish_reason":%s}]}`+"\n\n", i, text, finish)
	}
	s.put(s.tokens(1, "bx"), s.tokens(0, "a"))
	if got, want := c.chunk(t), choice(0, "a", "null")+choice(1, "b", `"stop"`); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	s.put(s.tokens(0, "c"), scheduler.Event{Choice: 0, Kind: scheduler.EventDone, Finish: scheduler.FinishLength})
	if got, want := c.chunk(t), choice(0, "c", `"length"`)+openai.Done; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestPings(t *testing.T) {
	for _, path := range []string{pathChat, pathText} {
		t.Run(path, func(t *testing.T) {
			fake := newFake(silent)
			ts := start(t, fake, func(o *Options) { o.PingInterval = 30 * time.Millisecond })
			c := ts.dial(t)
			body := helloWith(`,"stream":true`)
			if path == pathText {
				body = `{"prompt":"p","stream":true}`
			}
			c.send(t, rawPost(path, body))
			c.head(t) // though it is still in the queue
			got := ""
			for strings.Count(got, openai.Ping) < 3 {
				got += c.chunk(t)
			}
			if rest := strings.ReplaceAll(got, openai.Ping, ""); strings.Count(rest, "data: ") > 1 || strings.Contains(got, "ping\n\n") {
				t.Errorf("got %q", got)
			}
			s := fake.stream(t, 0)
			s.admit(0)
			s.put(s.tokens(0, "a"), scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishStop})
			for !strings.HasSuffix(got, openai.Done) {
				got += c.chunk(t)
			}
		})
	}
}

// What fails before the headers has a status; what fails later says so in the
// stream, without [DONE], and the connection stays usable.
func TestStreamFailures(t *testing.T) {
	boom := errors.New("secret detail of the engine")
	for _, c := range []struct {
		name   string
		done   scheduler.Event
		status int
		code   string
	}{
		{"error", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishError, Err: boom}, 500, ""},
		{"poison", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishError, Err: &scheduler.PoisonError{Err: boom}}, 500, ""},
		{"no engine", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishError, Err: &engine.LostError{Reason: "secret"}}, 503, openai.CodeOverloaded},
		{"expired", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishExpired}, 503, openai.CodeOverloaded},
		{"cut off", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishCancel}, 503, openai.CodeShuttingDown},
		{"outgrown", scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishError, Err: &scheduler.TooLongError{Tokens: 9, Limit: 8}}, 400, openai.CodeContextLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := newFake(silent)
			ts := start(t, fake, nil)
			conn := ts.dial(t)
			// Early, streamed and not.
			for i, extra := range []string{`,"stream":true`, ``} {
				conn.send(t, rawPost(pathChat, helloWith(extra)))
				fake.stream(t, i).put(c.done)
				resp := conn.response(t)
				b := readAll(t, resp)
				if resp.StatusCode != c.status || !strings.Contains(b, `{"error":{"message":`) || !strings.Contains(b, `"code":`+quoteOrNull(c.code)) {
					t.Errorf("early, %q: %d %s", extra, resp.StatusCode, b)
				}
				if (c.status == 503) != (resp.Header.Get("Retry-After") != "") {
					t.Errorf("Retry-After %q with %d", resp.Header.Get("Retry-After"), c.status)
				}
				if resp.Close {
					conn = ts.dial(t)
				}
			}
			// Late.
			conn.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
			s := fake.stream(t, 2)
			s.admit(0)
			conn.head(t)
			conn.chunk(t)
			s.put(s.tokens(0, "a"), c.done)
			got := conn.chunk(t)
			if want := delta("a") + `data: {"error":{"message":`; !strings.HasPrefix(got, want) || strings.Contains(got, "DONE") || !strings.HasSuffix(got, "}}\n\n") {
				t.Errorf("late: %q", got)
			}
			if conn.chunk(t) != "" {
				t.Error("something came after the error")
			}
			conn.send(t, rawPost(pathTokenize, `{"content":"a"}`))
			if resp := conn.response(t); resp.StatusCode != 200 {
				t.Errorf("the connection is spoilt: %d", resp.StatusCode)
			}
			if r := ts.record(t, 2); r.Status != c.status {
				t.Errorf("recorded status %d, want %d", r.Status, c.status)
			}
			if c.status == 500 && !strings.Contains(ts.logs.String(), "secret detail") {
				t.Error("the log does not say what failed")
			}
		})
	}
}

func quoteOrNull(s string) string {
	if s == "" {
		return "null"
	}
	return `"` + s + `"`
}

// A panic is a 500 for one request, with its text in the log only.
func TestPanic(t *testing.T) {
	fake := newFake(answer(scheduler.FinishStop, "a"))
	calls := 0
	fake.submit = func(scheduler.Request) error {
		if calls++; calls == 1 {
			panic("secret")
		}
		return nil
	}
	ts := start(t, fake, nil)
	status, header, body := ts.post(t, pathChat, helloWith(""))
	if status != 500 || strings.Contains(body, "secret") || header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %v %s", status, header, body)
	}
	if !strings.Contains(ts.logs.String(), "secret") {
		t.Error("the log does not say what panicked")
	}
	if status, _, body := ts.post(t, pathChat, helloWith("")); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// A client that reads slowly holds up nobody, and is given up at the write deadline.
func TestSlowReader(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, func(o *Options) { o.WriteTimeout = 300 * time.Millisecond })
	slow := ts.dial(t)
	if err := slow.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	slow.send(t, rawPost(pathChat, helloWith(`,"stream":true`)))
	s := fake.stream(t, 0)
	s.admit(0)
	text := strings.Repeat("x", 1<<16)
	begun := time.Now()
	for evicted := false; !evicted; {
		s.say(0, text) // never waits
		select {
		case <-s.cancelled:
			evicted = true
		default:
			if time.Since(begun) > 10*time.Second {
				t.Fatal("the slow reader was not given up")
			}
			// Another client is served meanwhile.
			if status, _, _ := ts.do(t, "GET", pathModels, ""); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
		}
	}
	for n := 0; ; n++ {
		if r := ts.record(t, n); r.Path == pathChat {
			if r.Status != StatusClientGone {
				t.Errorf("recorded status %d", r.Status)
			}
			break
		}
	}
}

// HTTP/1.0 proxies understand the answer, too.
func TestHTTP10(t *testing.T) {
	ts := start(t, newFake(answer(scheduler.FinishStop, "a")), nil)
	c := ts.dial(t)
	body := helloWith(`,"stream":true`)
	c.send(t, fmt.Sprintf("POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", pathChat, len(body), body))
	resp := c.response(t)
	if b := readAll(t, resp); !strings.HasSuffix(b, openai.Done) {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, b)
	}
}
