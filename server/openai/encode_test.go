package openai

import (
	"encoding/json"
	"math"
	"testing"
	"unicode/utf8"

	"llamero/engine"
	"llamero/tokenizer"
)

// FuzzString: what is written reads back as the same text, by another's decoder.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a\"b\\c/<>&", "\x00\x1f\x7f\n\r\t", "🦙\u2028\u2029é", "\xff\xf0\x9f\xa6", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := appendString(nil, s)
		if string(appendString(nil, []byte(s))) != string(out) {
			t.Fatalf("%q differs as bytes", s)
		}
		if !utf8.Valid(out) {
			t.Fatalf("%q gives invalid UTF-8 %q", s, out)
		}
		var got, want string
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q gives %s: %v", s, out, err)
		}
		std, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(std, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%q reads back as %q, want %q", s, got, want)
		}
	})
}

func TestLogProbs(t *testing.T) {
	for _, c := range []struct {
		v    float32
		want string
	}{{-0.5, "-0.5"}, {0, "0"}, {1e-7, "0"}, {float32(math.Inf(-1)), "-9999"}, {float32(math.NaN()), "-9999"}, {-1e-9, "-0.000000001"}} {
		if got := string(appendLogProb(nil, c.v)); got != c.want {
			t.Errorf("%v gives %s, want %s", c.v, got, c.want)
		}
	}
}

// testVocab spells 🦙 in two halves.
func testVocab() *tokenizer.Vocab {
	return tokenizer.NewVocab([]string{"a", "\xf0\x9f", "\xa6\x99", "<|end|>", "a"},
		[]tokenizer.Attr{3: tokenizer.AttrControl}, tokenizer.None, 3)
}

func scored(t engine.Token, lp float32, top ...engine.TopProb) Scored {
	return Scored{Sampled: engine.Sampled{Token: t, LogProb: lp, Top: top}}
}

func TestChunks(t *testing.T) {
	usage := Usage{Prompt: 3, Completion: 2, Cached: 1}
	chat := &Head{Shape: Chat, ID: "c1", Created: 7, Model: `m"`, Vocab: testVocab()}
	chatLP := &Head{Shape: Chat, ID: "c1", Created: 7, Model: "m", Vocab: testVocab(), LogProbs: true, Top: 1}
	text := &Head{Shape: Text, ID: "t1", Created: 7, Model: "m", Vocab: testVocab(), LogProbs: true, Top: 2}
	plain := NewChunks(chat, 2, false)
	withUsage := NewChunks(chat, 1, true)
	lp := NewChunks(chatLP, 1, false)
	tx := NewChunks(text, 1, false)
	const pre = `data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m\"","choices":[`
	for _, c := range []struct {
		name, got, want string
	}{
		{"role", string(plain.AppendRole(nil, 1)),
			pre + `{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n"},
		{"delta", string(plain.AppendDelta(nil, 0, []byte("a\nb"), nil, "")),
			pre + `{"index":0,"delta":{"content":"a\nb"},"logprobs":null,"finish_reason":null}]}` + "\n\n"},
		{"finish", string(plain.AppendDelta(nil, 0, nil, nil, "length")),
			pre + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}` + "\n\n"},
		{"delta before usage", string(withUsage.AppendDelta(nil, 0, []byte("a"), nil, "stop")),
			pre + `{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":"stop"}],"usage":null}` + "\n\n"},
		{"usage", string(withUsage.AppendUsage(nil, usage)),
			pre + `],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}}` + "\n\n"},
		{"usage with guesses", string(withUsage.AppendUsage(nil, Usage{Prompt: 3, Completion: 9, Guesses: true, Guessed: 8, Accepted: 6})),
			pre + `],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0},` +
				`"completion_tokens_details":{"accepted_prediction_tokens":6,"rejected_prediction_tokens":2}}}` + "\n\n"},
		{"logprobs", string(lp.AppendDelta(nil, 0, []byte("🦙"), []Scored{scored(1, -1, engine.TopProb{Token: 0, LogProb: -0.5}, engine.TopProb{Token: 1, LogProb: -1}), scored(2, 0)}, "")),
			`data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"🦙"},"logprobs":{"content":[` +
				`{"token":"\ufffd\ufffd","logprob":-1,"bytes":[240,159],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]}]},` +
				`{"token":"\ufffd\ufffd","logprob":0,"bytes":[166,153],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}` + "\n\n"},
		{"text logprobs", string(tx.AppendDelta(nil, 0, []byte("a🦙"), []Scored{
			{Sampled: engine.Sampled{Token: 0}, NoScore: true}, {Sampled: engine.Sampled{Token: 3, LogProb: -2}, Spelled: true},
			scored(1, -1, engine.TopProb{Token: 0, LogProb: -1}, engine.TopProb{Token: 4, LogProb: -3}), scored(2, -1)}, "")),
			`data: {"id":"t1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"a🦙","logprobs":{"tokens":["a","<|end|>","\ufffd\ufffd","\ufffd\ufffd"],` +
				`"token_logprobs":[null,-2,-1,-1],"top_logprobs":[null,{},{"a":-1},{}],"text_offset":[0,1,8,9]},"finish_reason":null}]}` + "\n\n"},
		{"text logprobs go on", string(tx.AppendDelta(nil, 0, []byte("a"), []Scored{scored(0, -1)}, "stop")),
			`data: {"id":"t1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-1],"top_logprobs":[{}],"text_offset":[9]},"finish_reason":"stop"}]}` + "\n\n"},
		{"no role in text", string(tx.AppendRole(nil, 0)), ""},
		{"failure", string(AppendFailure(nil, &Error{Message: "no", Type: TypeServer, Code: CodeShuttingDown})),
			`data: {"error":{"message":"no","type":"server_error","param":null,"code":"shutting_down"}}` + "\n\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, c.got, c.want)
		}
	}
}

func BenchmarkAppendDelta(b *testing.B) {
	c := NewChunks(&Head{Shape: Chat, ID: "chatcmpl-0123456789abcdef01234567", Created: 1700000000, Model: "smollm2-135m"}, 1, false)
	buf := make([]byte, 0, 4096)
	text := []byte(" token")
	b.ReportAllocs()
	for b.Loop() {
		buf = c.AppendDelta(buf[:0], 0, text, nil, "")
	}
}
