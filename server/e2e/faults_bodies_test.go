package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// answerLimit is how long a request of these may take: longer than one that waits for
// the slots of others, and shorter than one that hangs.
const answerLimit = time.Minute

// attempt is a request that may be anything.
type attempt struct {
	what string
	raw  []byte
	// cut is a request that has no end, or may not: the client stops sending, and the
	// server need not answer.
	cut bool
}

// outcome of an attempt: its status, 0 for no answer.
func (a attempt) send(addr string) (int, error) {
	c, err := net.DialTimeout("tcp", addr, answerLimit)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return 0, err
	}
	// A server that has refused may close while we send: what it said counts.
	_, sent := c.Write(a.raw)
	if tcp, ok := c.(*net.TCPConn); ok && a.cut && sent == nil {
		sent = tcp.CloseWrite()
	}
	r := bufio.NewReader(c)
	for {
		method := http.MethodPost
		if bytes.HasPrefix(a.raw, []byte("HEAD ")) {
			method = http.MethodHead
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return 0, fmt.Errorf("no answer within %v", answerLimit)
		case err != nil && a.cut:
			return 0, nil
		case err != nil:
			return 0, errors.Join(err, sent)
		case resp.StatusCode == http.StatusContinue:
			continue
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
		resp.Body.Close()
		if err != nil && !a.cut {
			return resp.StatusCode, err
		}
		return resp.StatusCode, checkAnswer(resp, body, method)
	}
}

// checkAnswer says what is wrong with an answer: a failure of the server's, or a
// refusal in another shape than OpenAI's.
func checkAnswer(resp *http.Response, body []byte, method string) error {
	switch {
	case resp.StatusCode >= 500:
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	case resp.StatusCode < 400 || method == http.MethodHead:
		return nil
	}
	var e struct {
		Error *struct {
			Message string
			Type    string
			Param   *string
			Code    *string
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Error == nil || e.Error.Message == "" || e.Error.Type == "" {
		return fmt.Errorf("status %d is not in OpenAI's shape: %.300s (%v)", resp.StatusCode, body, err)
	}
	return nil
}

// post is a whole request with a body.
func post(what, path string, body []byte, header ...string) attempt {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n", path, len(body))
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return attempt{what: what, raw: b.Bytes()}
}

// bases are good requests that others are made of.
var bases = []struct{ path, body string }{
	{"/v1/chat/completions", `{"model":"smol","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hi"}]}],"max_tokens":2}`},
	{"/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi","name":"u"},{"role":"assistant","content":null},{"role":"user","content":"x"}],
		"temperature":0.5,"top_p":0.9,"top_k":5,"min_p":0.1,"typical_p":0.9,"presence_penalty":1,"frequency_penalty":1,"repetition_penalty":1.1,
		"logit_bias":{"7":-100},"seed":1,"n":2,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":2,
		"max_completion_tokens":2,"ignore_eos":true,"priority":1,"user":"u","response_format":{"type":"text"},"tools":[],"tool_choice":"none"}`},
	{"/v1/completions", `{"model":"smol","prompt":["a","b"],"max_tokens":2,"echo":true,"logprobs":1,"best_of":1,"suffix":""}`},
	{"/v1/completions", `{"prompt":[[1,2],[3]],"max_tokens":1,"stream":true}`},
	{"/tokenize", `{"content":"Llamas hum.","add_special":true,"parse_special":false}`},
	{"/detokenize", `{"tokens":[1,2,3]}`},
	{"/apply-template", `{"messages":[{"role":"user","content":"Hi"}]}`},
}

// odd are values to put where others were expected. They are text, so that what is no
// JSON is among them.
var odd = []string{
	`null`, `true`, `false`, `0`, `-1`, `1`, `7`, `128`, `129`, `0.5`, `-0`, `1e400`, `1e-400`, `-1e308`, `9223372036854775807`, `9223372036854775808`,
	`1e9`, `2147483648`, `01`, `0x10`, `NaN`, `Infinity`, `1.`, `.5`, `""`, `"x"`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"<|im_end|>"`, `"\"`,
	"\"\xff\xfe\"", "\"\x01\"", "\"\u202e\u2028\"", `[]`, `{}`, `[[]]`, `[null]`, `[{}]`, `{"":""}`, `{"a":{"b":{}}}`, `[1,"a"]`, `["a",1]`, `[-1]`, `[49152]`,
	`[1e99]`, `"{{ raise_exception('x') }}"`, `"{% for i in range(999999999) %}"`, `'x'`, `undefined`, ``,
}

// mangler makes attempts from a seed.
type mangler struct{ *rand.Rand }

func (m mangler) one(of []string) string { return of[m.IntN(len(of))] }

// next is an attempt of any kind.
func (m mangler) next() attempt {
	base := bases[m.IntN(len(bases))]
	text := []byte(base.body)
	switch m.IntN(16) {
	case 0, 1, 2, 3, 4:
		return post("an odd value", base.path, m.replaced(text))
	case 5:
		return post("two odd values", base.path, m.replaced(m.replaced(text)))
	case 6:
		return post("truncated", base.path, text[:m.IntN(len(text)+1)])
	case 7:
		for range 1 + m.IntN(4) {
			text[m.IntN(len(text))] ^= 1 << m.IntN(8)
		}
		return post("bits flipped", base.path, text)
	case 8:
		at := m.IntN(len(text) + 1)
		noise := make([]byte, m.IntN(64))
		for i := range noise {
			noise[i] = byte(m.Uint32())
		}
		return post("noise inside", base.path, bytes.Join([][]byte{text[:at], noise, text[at:]}, nil))
	case 9:
		depth := []int{10, 63, 64, 65, 1000, 100_000}[m.IntN(6)]
		opening := m.one([]string{"[", `{"a":`, "[[[{\"messages\":"})
		return post("deep", base.path, []byte(strings.Repeat(opening, depth)))
	case 10:
		return post("deep inside", base.path, m.put(text, strings.Repeat("[", m.IntN(80))+strings.Repeat("]", m.IntN(80))))
	case 11:
		return m.huge(base.path, text)
	case 12:
		return post("an odd frame", base.path, m.framed(text))
	case 13:
		return post("an odd header", base.path, text, m.header())
	default:
		return m.badHTTP(base.path, text)
	}
}

// replaced has an odd value in place of one, or in place of a name.
func (m mangler) replaced(text []byte) []byte { return m.put(text, m.one(odd)) }

// put puts a value where another one begins.
func (m mangler) put(text []byte, value string) []byte {
	var starts [][2]int
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		from := int(d.InputOffset())
		tok, err := d.Token()
		if err != nil {
			break
		}
		if _, bracket := tok.(json.Delim); bracket {
			continue
		}
		to := int(d.InputOffset())
		for from < to && strings.IndexByte(" \t\r\n:,", text[from]) >= 0 {
			from++
		}
		starts = append(starts, [2]int{from, to})
	}
	if len(starts) == 0 {
		return []byte(value)
	}
	at := starts[m.IntN(len(starts))]
	return bytes.Join([][]byte{text[:at[0]], []byte(value), text[at[1]:]}, nil)
}

// huge has one thing that is far too large.
func (m mangler) huge(path string, text []byte) attempt {
	n := 1 << 12 // most are small, since these cost the client, too
	if m.IntN(4) == 0 {
		n = []int{1 << 16, 1 << 20, 3 << 20}[m.IntN(3)]
	}
	switch m.IntN(6) {
	case 0:
		return post("a huge text", path, m.put(text, `"`+strings.Repeat(m.one([]string{"a", "é", `\n`, " ", "<|im_start|>"}), n)+`"`))
	case 1:
		return post("a huge list", path, m.put(text, "["+strings.Repeat("1,", n)+"1]"))
	case 2:
		return post("a huge object", path, m.put(text, "{"+strings.Repeat(`"a":1,`, n)+`"b":2}`))
	case 3:
		return post("many messages", path, []byte(`{"messages":[`+strings.Repeat(`{"role":"user","content":"a"},`, min(n, 1<<16))+`{"role":"user","content":"a"}]}`))
	case 4:
		return post("a huge number", path, m.put(text, strings.Repeat("9", n)))
	}
	return post("white space", path, append(bytes.Repeat([]byte(" "), n), text...))
}

// framed is a body in another frame.
func (m mangler) framed(text []byte) []byte {
	switch m.IntN(9) {
	case 0:
		return append([]byte("\xef\xbb\xbf"), text...)
	case 1:
		return append(bytes.Clone(text), text...)
	case 2:
		return append(bytes.Clone(text), " x"...)
	case 3:
		return bytes.Join([][]byte{[]byte("["), text, []byte("]")}, nil)
	case 4:
		wide := make([]byte, 0, 2*len(text))
		for _, c := range text {
			wide = append(wide, c, 0)
		}
		return wide
	case 5:
		return []byte("model=smol&prompt=a")
	case 6:
		return []byte("--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\n--x--\r\n")
	case 7:
		return bytes.ReplaceAll(text, []byte(`"`), []byte(`'`))
	}
	return append([]byte("// a comment\n"), text...)
}

// header is a header that means nothing, or something else.
func (m mangler) header() string {
	return m.one([]string{
		"Content-Encoding: gzip", "Content-Encoding: identity", "Content-Encoding: \xff", "Content-Type: text/plain", "Content-Type: multipart/form-data; boundary=x",
		"Content-Type: multipart/form-data", "Accept: text/html", "Authorization: Bearer", "Authorization: Bearer " + strings.Repeat("x", 4000), "Authorization: \x80\x81",
		"X-Request-Id: " + strings.Repeat("x", 3000), "X-Request-Id: a b\tc", "Traceparent: 00-0-0-0", "Traceparent: " + strings.Repeat("f", 2000), "Expect: 100-continue",
		"Expect: x", "Upgrade: h2c", "Range: bytes=0-1", "If-None-Match: *", "Host: y", "X-Forwarded-For: " + strings.Repeat("1.1.1.1,", 400),
		"X-Big: " + strings.Repeat("x", 20_000), strings.Repeat("X-Many: y\r\n", 2000) + "X-Last: z", "Cookie: " + strings.Repeat("a=b; ", 500), "Content-Length: 5",
	})
}

// badHTTP is a request that is not HTTP, or not for long.
func (m mangler) badHTTP(path string, body []byte) attempt {
	a := post("", path, body)
	a.cut = true
	with := func(what, raw string) attempt {
		a.what, a.raw = what, []byte(raw)
		return a
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: x\r\n"
	switch m.IntN(20) {
	case 0:
		a.what, a.raw = "a head cut off", a.raw[:m.IntN(min(len(a.raw), 90))]
	case 1:
		a.what = "a head with bits flipped"
		a.raw[m.IntN(bytes.Index(a.raw, []byte("\r\n\r\n")))] ^= 1 << m.IntN(8)
	case 2:
		return with("a length too large", head+"Content-Length: "+m.one([]string{"99999", "4194305", "99999999999", "99999999999999999999"})+"\r\n\r\n"+string(body))
	case 3:
		return with("a length that is none", head+"Content-Length: "+m.one([]string{"-1", "x", "", "1e3", "+5", "0x10", "5, 5", "5;6"})+"\r\n\r\n"+string(body))
	case 4:
		return with("two lengths", head+"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"+string(body))
	case 5:
		return with("length and chunks", head+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+string(body))
	case 6:
		return with("bad chunks", head+"Transfer-Encoding: chunked\r\n\r\n"+m.one([]string{"zz\r\nabc\r\n", "-1\r\nabc\r\n", "ffffffffffffffff\r\nabc\r\n", "7fffffffffffffff\r\nabc\r\n",
			"3\r\nabcdef\r\n0\r\n\r\n", "3;" + strings.Repeat("x", 5000) + "\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n", "", "\r\n"}))
	case 7:
		return with("another coding", head+"Transfer-Encoding: "+m.one([]string{"gzip", "gzip, chunked", "chunked, chunked", "identity", "\x00"})+"\r\n\r\n"+string(body))
	case 8:
		return with("another version", fmt.Sprintf("POST %s %s\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", path, m.one([]string{"HTTP/0.9", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP/1.1.1", "http/1.1", "", "XTTP/1.1"})))
	case 9:
		return with("another method", m.one([]string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "p\x00st", "", strings.Repeat("A", 5000)})+" "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	case 10:
		return with("another path", "POST "+m.one([]string{"/", "*", "//", "/v1", path + "/", path + "?x=" + strings.Repeat("y", 5000), "http://h" + path, "http://[::1" + path, "/%00", "/%zz", "/..%2f..%2fetc/passwd",
			"/v1/models/" + strings.Repeat("%2F", 1000), "/\xff\xfe", "/" + strings.Repeat("a", 30_000), "/v1/models/%", path + "#x", path + "\x00"})+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	case 11:
		return with("a header without a colon", head+"no colon here\r\n\r\n")
	case 12:
		return with("a folded header", head+"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}")
	case 13:
		return with("bare line feeds", strings.ReplaceAll(string(a.raw), "\r\n", "\n"))
	case 14:
		return with("bytes in headers", head+"X-\x00: \x01\x7f\xff\r\nContent-Length: 2\r\n\r\n{}")
	case 15:
		return with("no host", "POST "+path+" HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
	case 16:
		return with("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	case 17:
		return with("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("\x42", 200))
	case 18:
		return with("a request behind another", string(a.raw)+string(a.raw)+"garbage")
	default:
		noise := make([]byte, 1+m.IntN(2000))
		for i := range noise {
			noise[i] = byte(m.Uint32())
		}
		a.what, a.raw = "noise", noise
	}
	return a
}

// lively is a gateway that fuzzers may have, and what it must still be afterwards.
type lively struct {
	*gateway
	engine, tokenizer int
	before            page
}

func newLively(t *testing.T, env []string, key string) *lively {
	t.Helper()
	g := burdened(t, env, "--slots", "8", "--context", "512", "--max-tokens", "4", "--cache-memory", "16MiB")
	l := &lively{gateway: g, engine: newChild(t, g, "engine", 0), tokenizer: newChild(t, g, "tokenizer", 0)}
	l.before, _ = scrape(t, g.url+"/metrics", key)
	return l
}

// lives says that all processes are the same ones, that no answer was a failure of the
// server's, and that nothing is left over.
func (l *lively) lives(t *testing.T, key string) {
	t.Helper()
	if s := l.status(t, "/healthz"); s != http.StatusOK {
		t.Errorf("health is %d", s)
	}
	if e, k := child(t, l.gateway, "engine"), child(t, l.gateway, "tokenizer"); e != l.engine || k != l.tokenizer {
		t.Errorf("the engine was %d and is %d, the tokenizer %d and %d\n%.4000s", l.engine, e, l.tokenizer, k, l.log)
	}
	var p page
	if !soon(patience, func() bool {
		p, _ = scrape(t, l.url+"/metrics", key)
		return p.value("vllm:num_requests_running") == 0 && p.value("vllm:num_requests_waiting") == 0 &&
			p.value("go_goroutines") <= l.before.value("go_goroutines")+5 && p.value("process_open_fds") <= l.before.value("process_open_fds")+10
	}) {
		t.Errorf("left over: %v running, %v waiting, %v goroutines (%v before), %v files (%v)", p.value("vllm:num_requests_running"), p.value("vllm:num_requests_waiting"),
			p.value("go_goroutines"), l.before.value("go_goroutines"), p.value("process_open_fds"), l.before.value("process_open_fds"))
	}
	for _, m := range p["llamero_http_requests_total"].GetMetric() {
		for _, x := range m.GetLabel() {
			if x.GetName() == "code" && strings.HasPrefix(x.GetValue(), "5") {
				t.Errorf("%v answers with status %s", m.GetCounter().GetValue(), x.GetValue())
			}
		}
	}
	if n := p.value("llamero_step_failures_total"); n != 0 {
		t.Errorf("%v steps failed", n)
	}
}

// TestBadRequests: whatever comes, nothing crashes, nothing hangs, nothing is the
// server's fault, and every refusal has OpenAI's shape.
func TestBadRequests(t *testing.T) {
	n := sized(480, 10_000)
	row := newRow(t, rowBodies, fmt.Sprintf("%d malformed, truncated, huge, deep and wrong-typed bodies, headers and requests", n))
	const senders = 8
	g := newLively(t, nil, "")
	addr := strings.TrimPrefix(g.url, "http://")
	var mu sync.Mutex
	statuses, failed := map[int]int{}, 0
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			m := mangler{rand.New(rand.NewPCG(uint64(i), 66))}
			for range n / senders {
				a := m.next()
				status, err := a.send(addr)
				mu.Lock()
				statuses[status]++
				if err != nil {
					if failed++; failed <= 10 {
						t.Errorf("%s: %v\n%.500q", a.what, err, a.raw)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	g.lives(t, "")
	refused, answered := 0, 0
	for status, n := range statuses {
		switch {
		case status >= 400:
			refused += n
		case status > 0:
			answered += n
		}
	}
	if refused < n/3 || answered == 0 {
		t.Errorf("%d refused and %d answered of %d: the requests are not what they should be", refused, answered, n)
	}
	row.figure("%d refused in OpenAI's shape, %d answered (what was harmless), %d cut off without an answer, %d failures of the server", refused, answered, statuses[0], failed)
	row.figure("no process of the gateway's ended")
	row.figure("memory at its peak %.0f MiB", peak(t, g.gateway)/(1<<20))
}
