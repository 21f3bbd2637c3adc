package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/scheduler/loop"
	"llamero/tokenizer/tokenizertest"
)

func TestKeys(t *testing.T) {
	fake := newFake(answer(scheduler.FinishStop, "a"))
	ts := start(t, fake, func(o *Options) { o.Keys = []Key{{"ann", "sk-1"}, {"bob", "sk-22"}} })
	for _, c := range []struct {
		header string
		key    string // "" for a refusal
	}{
		{"", ""}, {"Bearer", ""}, {"Bearer ", ""}, {"Bearer sk-", ""}, {"Bearer sk-11", ""}, {"Basic sk-1", ""}, {"sk-1", ""},
		{"Bearer sk-1", "ann"}, {"bearer  sk-22", "bob"},
	} {
		var h []string
		if c.header != "" {
			h = []string{"Authorization", c.header}
		}
		status, header, body := ts.post(t, pathChat, helloWith(""), h...)
		if c.key == "" {
			if status != 401 || header.Get("WWW-Authenticate") == "" || !strings.Contains(body, `"code":"invalid_api_key"`) {
				t.Errorf("%q: %d %v %s", c.header, status, header, body)
			}
			continue
		}
		if status != 200 {
			t.Errorf("%q: %d %s", c.header, status, body)
		}
		reqs := fake.requests()
		if got := reqs[len(reqs)-1].Tenant; got != c.key {
			t.Errorf("%q: the tenant is %q, want %q", c.header, got, c.key)
		}
	}
	if n := len(fake.requests()); n != 2 {
		t.Errorf("%d requests came through, want 2", n)
	}
	for _, path := range []string{pathHealth, pathReady} {
		if status, _, _ := ts.do(t, "GET", path, ""); status != 200 {
			t.Errorf("%s wants a key: %d", path, status)
		}
	}
	for _, c := range [][2]string{{"GET", pathModels}, {"GET", "/v1/models/m"}, {"POST", pathText}, {"POST", pathTokenize}, {"POST", pathDetokenize}, {"POST", pathTemplate}} {
		if status, _, _ := ts.do(t, c[0], c[1], "{}"); status != 401 {
			t.Errorf("%s %s wants no key: %d", c[0], c[1], status)
		}
	}
	if strings.Contains(ts.logs.String(), "sk-") {
		t.Error("a secret is in the log")
	}
}

func TestLoopback(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want bool
	}{
		{&net.TCPAddr{IP: net.ParseIP("127.0.0.9")}, true},
		{&net.TCPAddr{IP: net.ParseIP("::1")}, true},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}, true},
		{&net.TCPAddr{IP: net.ParseIP("10.0.0.1")}, false},
		{&net.UnixAddr{Name: "x"}, true},
		{&net.IPAddr{IP: net.ParseIP("127.0.0.1")}, false},
	} {
		if got := isLoopback(c.addr); got != c.want {
			t.Errorf("%v: %v", c.addr, got)
		}
	}
}

func TestRequestID(t *testing.T) {
	ts := start(t, newFake(silent), nil)
	for _, c := range []struct {
		given string
		kept  bool
	}{
		{"abc-1_2.3:4/5+6=", true}, {strings.Repeat("x", 128), true}, {strings.Repeat("x", 129), false}, {"a b", false}, {"ü", false}, {`a"b`, false}, {"", false},
	} {
		_, header, _ := ts.do(t, "GET", pathHealth, "", "X-Request-Id", c.given)
		got := header.Get("X-Request-Id")
		if (got == c.given) != c.kept || got == "" {
			t.Errorf("%q gives %q", c.given, got)
		}
	}
	if _, header, _ := ts.do(t, "GET", "/nowhere", "", "X-Request-Id", "mine"); header.Get("X-Request-Id") != "mine" {
		t.Error("an error has lost the id")
	}
}

// What Submit refuses has OpenAI's shape, and says when to come back.
func TestRefusedSubmit(t *testing.T) {
	for _, c := range []struct {
		err              error
		status           int
		code, after, ms  string
		closed, mayRetry bool
	}{
		{&loop.BusyError{RetryAfter: 1200 * time.Millisecond}, 429, "rate_limit_exceeded", "2", "1200", false, true},
		{&loop.BusyError{RetryAfter: time.Hour}, 429, "rate_limit_exceeded", "8", "8000", false, true},
		{&loop.BusyError{}, 429, "rate_limit_exceeded", "1", "1", false, true},
		{fmt.Errorf("wrapped: %w", scheduler.ErrQueueFull), 429, "rate_limit_exceeded", "2", "2000", false, true},
		{loop.ErrDraining, 503, "shutting_down", "1", "1000", true, true},
		{&scheduler.TooLongError{Tokens: 600, Limit: 511}, 400, "context_length_exceeded", "", "", false, true},
		{errors.New("secret"), 500, "", "", "", false, false},
	} {
		for _, stream := range []bool{true, false} {
			fake := newFake(silent)
			fake.submit = func(scheduler.Request) error { return c.err }
			ts := start(t, fake, nil)
			conn := ts.dial(t)
			conn.send(t, rawPost(pathChat, helloWith(fmt.Sprintf(`,"stream":%v`, stream))))
			resp := conn.response(t)
			body := readAll(t, resp)
			if resp.StatusCode != c.status || !strings.Contains(body, `"code":`+quoteOrNull(c.code)) || strings.Contains(body, "secret") {
				t.Errorf("%v: %d %s", c.err, resp.StatusCode, body)
			}
			h := resp.Header
			if h.Get("Retry-After") != c.after || h.Get("Retry-After-Ms") != c.ms || (h.Get("X-Should-Retry") != "false") != c.mayRetry || resp.Close != c.closed {
				t.Errorf("%v: close %v, %v", c.err, resp.Close, h)
			}
			if c.status == 400 && !strings.Contains(body, `"param":"messages"`) {
				t.Errorf("%v: %s", c.err, body)
			}
		}
	}
}

// A full queue is said before the prompt costs anything: not even its template is
// looked at, which would have refused this one.
func TestBusyBeforeWork(t *testing.T) {
	fake := newFake(silent)
	fake.busy = &loop.BusyError{RetryAfter: 3 * time.Second}
	ts := start(t, fake, nil)
	for path, body := range map[string]string{
		pathChat: `{"messages":[{"role":"user","content":"` + strings.Repeat("long ", 5000) + `"}]}`,
		pathText: `{"prompt":"` + strings.Repeat("long ", 5000) + `"}`,
	} {
		status, header, text := ts.post(t, path, body)
		if status != 429 || header.Get("Retry-After") != "3" {
			t.Errorf("%s: %d, Retry-After %q: %s", path, status, header.Get("Retry-After"), text)
		}
	}
	if n := len(fake.requests()); n != 0 {
		t.Errorf("%d requests were submitted", n)
	}
}

// More answers than the server can ever hold is the request's fault, not the load's.
func TestBeyondCapacity(t *testing.T) {
	fake := newFake(silent)
	fake.capacity = 3
	ts := start(t, fake, nil)
	status, _, body := ts.post(t, pathText, `{"prompt":["a","b"],"n":2}`)
	if status != 400 || !strings.Contains(body, `"param":"n"`) {
		t.Errorf("%d %s", status, body)
	}
}

// If the second of two prompts is refused, the first one is not computed either.
func TestPartlyRefused(t *testing.T) {
	fake := newFake(silent)
	calls := 0
	fake.submit = func(scheduler.Request) error {
		if calls++; calls == 2 {
			return &loop.BusyError{RetryAfter: time.Second}
		}
		return nil
	}
	ts := start(t, fake, nil)
	if status, _, body := ts.post(t, pathText, `{"prompt":["a","b"]}`); status != 429 {
		t.Errorf("%d %s", status, body)
	}
	await(t, "cancel", fake.stream(t, 0).cancelled)
}

func TestTooLong(t *testing.T) {
	ts := start(t, newFake(silent), nil)
	long := strings.Repeat("x", 600)
	for _, c := range []struct{ path, body, param string }{
		{pathChat, `{"messages":[{"role":"user","content":"` + long + `"}]}`, "messages"},
		{pathText, `{"prompt":"` + long + `"}`, "prompt"},
		{pathText, `{"prompt":[` + strings.Repeat("7,", 600) + `7]}`, "prompt"},
	} {
		status, _, body := ts.post(t, c.path, c.body)
		if status != 400 || !strings.Contains(body, `"param":"`+c.param+`","code":"context_length_exceeded"`) || !strings.Contains(body, "512") {
			t.Errorf("%d %s", status, body)
		}
	}
}

func TestHTTPLimits(t *testing.T) {
	ts := start(t, newFake(silent), func(o *Options) {
		o.BodyLimit, o.HeaderLimit = 1000, 4096
		o.ReadTimeout = 100 * time.Millisecond
	})
	for _, c := range []struct {
		name, send string
		status     int
	}{
		{"body", rawPost(pathChat, strings.Repeat(" ", 1001)), 413},
		{"header", rawPost(pathChat, "{}", "X-Big: "+strings.Repeat("x", 5000)), 431},
		{"never ends", "POST " + pathChat + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 408},
		{"bad header", "POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-secret\r\nbad header\r\n\r\n", 400},
		{"not HTTP", "hello\r\n\r\n", 400},
		{"no such method", "BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		{"no such method, no such path", "BREW /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"gzip", rawPost(pathChat, "xxx", "Content-Encoding: gzip"), 415},
		{"chunked body", "POST " + pathTokenize + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"content\":\"a\"}\r\n0\r\n\r\n", 200},
		{"chunked too large", "POST " + pathTokenize + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + strings.Repeat(" ", 1024) + "\r\n0\r\n\r\n", 413},
	} {
		conn := ts.dial(t)
		conn.send(t, c.send)
		resp := conn.response(t)
		body := readAll(t, resp)
		if resp.StatusCode != c.status || (c.status != 200 && !strings.Contains(body, `"type":"invalid_request_error"`)) || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s", c.name, resp.StatusCode, resp.Header, body)
		}
		if allow := resp.Header.Get("Allow"); (c.status == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: Allow %q", c.name, allow)
		}
	}
	if strings.Contains(ts.logs.String(), "sk-secret") {
		t.Error("a key is in the log")
	}
}

// A client that is still sending when its body is refused gets to see why.
func TestBigBody(t *testing.T) {
	ts := start(t, newFake(silent), nil)
	for range 5 {
		if status, _, body := ts.post(t, pathChat, strings.Repeat(" ", 8<<20)); status != 413 {
			t.Errorf("%d %s", status, body)
		}
	}
}

// What the scheduler is handed.
func TestRequests(t *testing.T) {
	fake := newFake(answer(scheduler.FinishLength, "a"))
	ts := start(t, fake, func(o *Options) { o.Models[0].MaxTokens = 50 })
	last := func(path, body string) scheduler.Request {
		t.Helper()
		if status, _, b := ts.post(t, path, body); status != 200 {
			t.Fatalf("%s: %d %s", body, status, b)
		}
		reqs := fake.requests()
		return reqs[len(reqs)-1]
	}
	r := last(pathChat, helloWith(`,"seed":5,"n":3,"priority":-2,"max_tokens":7,"logit_bias":{"65":2},"temperature":0`))
	if r.Sampling.Seed != 5 || r.Choices != 3 || r.Priority != -2 || r.MaxTokens != 7 || r.Sampling.Temperature != 0 ||
		len(r.Sampling.Bias) != 1 || r.Sampling.Bias[0] != (engine.Bias{Token: 65, Add: 2}) || len(r.Stop) != 1 || r.Stop[0] != tokenizertest.End {
		t.Errorf("%+v", r)
	}
	if r.Prompt[0] != tokenizertest.BOS || r.Prompt[1] != tokenizertest.Start {
		t.Errorf("the prompt begins with %v; BOS and <|im_start|> were expected", r.Prompt[:2])
	}
	if a, b := last(pathChat, helloWith("")), last(pathChat, helloWith("")); a.Sampling.Seed == b.Sampling.Seed {
		t.Error("two requests without a seed have the same")
	} else if a.MaxTokens != 50 {
		t.Errorf("max tokens %d; the model's bound is 50", a.MaxTokens)
	}
	if r := last(pathChat, helloWith(`,"max_tokens":70`)); r.MaxTokens != 50 {
		t.Errorf("max tokens %d; the model's bound is 50", r.MaxTokens)
	}
	r = last(pathChat, helloWith(`,"ignore_eos":true,"logit_bias":{"65":2}`))
	if len(r.Stop) != 0 || len(r.Sampling.Bias) != 2 || r.Sampling.Bias[1].Token != tokenizertest.End || r.Sampling.Bias[1].Add > -1e30 {
		t.Errorf("ignore_eos: stop %v, bias %v", r.Stop, r.Sampling.Bias)
	}
	r = last(pathText, `{"prompt":"<|im_end|>","parse_special":false,"logprobs":2,"echo":true,"max_tokens":0}`)
	if !r.PromptScores || r.MaxTokens != -1 || r.Sampling.LogProbs != 3 || len(r.Prompt) != 11 {
		t.Errorf("%+v", r)
	}
	if r := last(pathText, `{"prompt":"<|im_end|>"}`); len(r.Prompt) != 2 || r.Prompt[1] != tokenizertest.End || r.MaxTokens != 16 {
		t.Errorf("%+v", r)
	}
	if r := last(pathText, `{"prompt":""}`); len(r.Prompt) != 1 || r.Prompt[0] != tokenizertest.BOS {
		t.Errorf("%+v", r)
	}
}

// A conversation that spells a control token reaches the model as text.
func TestSpelledControlToken(t *testing.T) {
	fake := newFake(answer(scheduler.FinishStop, "a"))
	ts := start(t, fake, nil)
	ts.post(t, pathChat, `{"messages":[{"role":"user","content":"<|im_end|>"}]}`)
	ends := 0
	for _, tok := range fake.requests()[0].Prompt {
		if tok == tokenizertest.End {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("%d end tokens in the prompt; the template writes one", ends)
	}
}

func TestReadiness(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	fake.mu.Lock()
	fake.ready = false
	fake.mu.Unlock()
	if status, _, body := ts.do(t, "GET", pathReady, ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := ts.do(t, "GET", pathHealth, ""); status != 200 {
		t.Errorf("health %d", status)
	}
}

func TestOptions(t *testing.T) {
	good := Model{Alias: "m", Tokenizer: tokenizertest.Bytes{V: tokenizertest.Vocab()}, Template: chatML(t), Loop: newFake(silent)}
	_, err := New(Options{Models: []Model{good, good, {}}, Keys: []Key{{"", "x"}, {"a", ""}, {"b", "1"}, {"b", "2"}}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`alias "m" is given twice`, "model 2 has no alias", "needs a tokenizer", "key 0 has no name", `"a" has no secret`, `name "b" is given twice`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from %v", want, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no model is accepted")
	}
}

// With two models a request must name one.
func TestTwoModels(t *testing.T) {
	a, b := newFake(answer(scheduler.FinishStop, "a")), newFake(answer(scheduler.FinishStop, "b"))
	ts := start(t, a, func(o *Options) {
		second := o.Models[0]
		second.Alias, second.Loop = "org/two", b
		o.Models = append(o.Models, second)
	})
	if status, _, body := ts.post(t, pathText, `{"prompt":"p"}`); status != 400 || !strings.Contains(body, `"param":"model"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := ts.post(t, pathText, `{"prompt":"p","model":"org/two"}`); status != 200 || !strings.Contains(body, `"text":"b"`) {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{"/v1/models/org/two", "/v1/models/org%2Ftwo"} {
		if status, _, body := ts.do(t, "GET", path, ""); status != 200 || !strings.Contains(body, `"id":"org/two"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// The record names the route that matched, and a bounded path otherwise.
func TestRecordPaths(t *testing.T) {
	ts := start(t, newFake(silent), nil)
	ts.do(t, "GET", "/v1/models/m", "")
	ts.do(t, "GET", "/"+strings.Repeat("x", 1000), "")
	ts.do(t, "GET", pathChat, "")
	for i, want := range []string{pathModel, "/" + strings.Repeat("x", 127), pathChat} {
		if r := ts.record(t, i); r.Path != want || r.Duration <= 0 {
			t.Errorf("%d: %+v", i, r)
		}
	}
}

// Bodies are let go and copied: what one request sent is not seen by another on the
// same connection.
func TestCopies(t *testing.T) {
	fake := newFake(answer(scheduler.FinishStop, "a"))
	fake.limits.SlotTokens = 1 << 20
	ts := start(t, fake, nil)
	c := ts.dial(t)
	for _, fill := range []byte{'a', 'b', 'c'} {
		text := string(bytes.Repeat([]byte{fill}, 100<<10))
		c.send(t, rawPost(pathText, `{"prompt":"`+text+`","user":"`+string(fill)+`"}`))
		if resp := c.response(t); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		} else {
			readAll(t, resp)
		}
	}
	for i, r := range fake.requests() {
		for _, tok := range r.Prompt[1:] {
			if tok != engine.Token('a'+i) {
				t.Fatalf("request %d has token %d", i, tok)
			}
		}
	}
}
