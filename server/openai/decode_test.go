package openai

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"llamero/engine"
	"llamero/tokenizer"
)

const hi = `"messages":[{"role":"user","content":"hi"}]`

func TestChatDefaults(t *testing.T) {
	r, err := DecodeChat([]byte(`{`+hi+`,"unknown":{"a":[1]},"temperature":null,"stop":null,"tools":[],"tool_choice":"none","response_format":{"type":"text"},"modalities":["text"]}`), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := &ChatRequest{Messages: []Message{{Role: "user", Content: "hi"}}, Params: Params{N: 1, Sampling: engine.Sampling{Temperature: 1}}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

func TestChatEverything(t *testing.T) {
	r, err := DecodeChat([]byte(` {"model":"m","messages":[
		{"role":"developer","content":"be brief"},
		{"role":"user","name":"ann","content":[ {"type":"text","text":"a"}, {"type":"text","text":"b"} ]},
		{"role":"assistant","content":null},
		{"role":"user","content":"\ud83e\udd99 \ud800"}],
		"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"typical_p":0.95,"presence_penalty":-2,"frequency_penalty":2,
		"repetition_penalty":1.1,"logit_bias":{"7":-100,"3":2.5},"seed":-1,"n":2.0,"stop":["x","yz"],"max_tokens":5,"max_completion_tokens":7e0,
		"logprobs":true,"top_logprobs":3,"stream":true,"stream_options":{"include_usage":true},"ignore_eos":true,"include_speculation":true,"priority":-3,"user":"u"} `), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(math.MaxUint64)
	want := &ChatRequest{Model: "m", Messages: []Message{
		{Role: "system", Content: "be brief"},
		{Role: "user", Name: "ann", Content: "a\nb"},
		{Role: "assistant"},
		{Role: "user", Content: "🦙 \ufffd"},
	}, Params: Params{
		Sampling: engine.Sampling{Temperature: 0.5, TopP: 0.9, TopK: 40, MinP: 0.05, TypicalP: 0.95, Presence: -2, Frequency: 2,
			Repetition: 1.1, Bias: []engine.Bias{{Token: 3, Add: 2.5}, {Token: 7, Add: -100}}},
		Seed: &seed, N: 2, Stop: []string{"x", "yz"}, MaxTokens: 7, LogProbs: true, TopLogProbs: 3,
		Stream: true, IncludeUsage: true, IgnoreEOS: true, Guesses: true, Priority: -3, User: "u"}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
	if r.EngineLogProbs() != 4 {
		t.Errorf("EngineLogProbs is %d, want 4: the token's own and three others", r.EngineLogProbs())
	}
}

// OpenAI's edge values must not turn into the engine's "off".
func TestEdges(t *testing.T) {
	for _, c := range []struct {
		field string
		ok    func(engine.Sampling) bool
	}{
		{`"top_p":0`, func(s engine.Sampling) bool { return s.TopP > 0 && s.TopP < 1e-6 }},
		{`"top_p":1e-60`, func(s engine.Sampling) bool { return s.TopP > 0 }},
		{`"top_p":1`, func(s engine.Sampling) bool { return s.TopP == 1 }},
		{`"top_k":-1`, func(s engine.Sampling) bool { return s.TopK == 0 }},
		{`"temperature":0`, func(s engine.Sampling) bool { return s.Temperature == 0 }},
		{`"temperature":1e-9`, func(s engine.Sampling) bool { return s.Temperature == 0 }},
		{`"temperature":0.7,"temperature":0.2`, func(s engine.Sampling) bool { return s.Temperature == 0.2 }},
		{`"Temperature":0.7`, func(s engine.Sampling) bool { return s.Temperature == 1 }},
		{`"typical_p":0`, func(s engine.Sampling) bool { return s.TypicalP > 0 }},
	} {
		r, err := DecodeChat([]byte(`{`+hi+`,`+c.field+`}`), DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.field, err)
			continue
		}
		if !c.ok(r.Sampling) {
			t.Errorf("%s gives %+v", c.field, r.Sampling)
		}
		if err := r.Sampling.Check(1 << 20); err != nil {
			t.Errorf("%s: the engine refuses it: %v", c.field, err)
		}
	}
}

func TestPrompts(t *testing.T) {
	type toks = []tokenizer.Token
	for _, c := range []struct {
		prompt string
		want   []Prompt
	}{
		{`"a"`, []Prompt{{Text: "a"}}},
		{`""`, []Prompt{{Text: ""}}},
		{`[ "a" , "b" ]`, []Prompt{{Text: "a"}, {Text: "b"}}},
		{`[1, 2]`, []Prompt{{Tokens: toks{1, 2}}}},
		{`[ 1.0, 2e0 ]`, []Prompt{{Tokens: toks{1, 2}}}},
		{`[ [1], [2,3] ]`, []Prompt{{Tokens: toks{1}}, {Tokens: toks{2, 3}}}},
	} {
		r, err := DecodeCompletion([]byte(`{"prompt":`+c.prompt+`}`), DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.prompt, err)
			continue
		}
		if !reflect.DeepEqual(r.Prompts, c.want) {
			t.Errorf("%s gives %+v, want %+v", c.prompt, r.Prompts, c.want)
		}
		if r.MaxTokens != DefaultCompletionTokens || !r.ParseSpecial {
			t.Errorf("%s: defaults are %+v", c.prompt, r)
		}
	}
}

func TestEchoOnly(t *testing.T) {
	r, err := DecodeCompletion([]byte(`{"prompt":"a","echo":true,"max_tokens":0,"logprobs":0}`), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if !r.NoTokens || !r.LogProbs || r.TopLogProbs != 0 || r.EngineLogProbs() != 1 {
		t.Errorf("got %+v", r)
	}
}

// Every refusal names its field.
func TestRefusals(t *testing.T) {
	chat := func(extra string) string { return `{` + hi + `,` + extra + `}` }
	message := func(m string) string { return `{"messages":[{"role":"user","content":"a"},` + m + `]}` }
	text := func(extra string) string { return `{"prompt":"a",` + extra + `}` }
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		kind, body, param, says string
	}{
		{"chat", ``, "", "empty"},
		{"chat", `[]`, "", "an array"},
		{"chat", `nul`, "", "not valid JSON"},
		{"chat", `{"a":NaN}`, "", "not valid JSON"},
		{"chat", `{} {}`, "", "not valid JSON"},
		{"chat", `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "", "nested more than 64"},
		{"chat", strings.Repeat(`{"a":`, 1e5), "", "nested more than 64"},
		{"chat", `{}`, "messages", "at least one"},
		{"chat", `{"messages":[]}`, "messages", "at least one"},
		{"chat", `{"messages":"hi"}`, "messages", "must be an array; got a string"},
		{"chat", `{"messages":["hi"]}`, "messages[0]", "must be an object; got a string"},
		{"chat", `{"messages":[` + strings.Repeat(`{},`, 4096) + `{}]}`, "messages", "at most 4096"},
		{"chat", message(`{"content":"x"}`), "messages[1].role", "missing"},
		{"chat", message(`{"role":7,"content":"x"}`), "messages[1].role", "must be a string; got a number"},
		{"chat", message(`{"role":"robot","content":"x"}`), "messages[1].role", `got "robot"`},
		{"chat", message(`{"role":"tool","content":"x"}`), "messages[1].role", "not served yet"},
		{"chat", message(`{"role":"user"}`), "messages[1].content", "missing"},
		{"chat", message(`{"role":"user","content":5}`), "messages[1].content", "got a number"},
		{"chat", message(`{"role":"user","content":["x"]}`), "messages[1].content[0]", "must be an object"},
		{"chat", message(`{"role":"user","content":[{"text":"x"}]}`), "messages[1].content[0].type", "missing"},
		{"chat", message(`{"role":"user","content":[{"type":"text"}]}`), "messages[1].content[0].text", "missing"},
		{"chat", message(`{"role":"user","content":[{"type":"image_url","image_url":{}}]}`), "messages[1].content[0].type", "image_url is not served yet"},
		{"chat", message(`{"role":"user","content":[{"type":"input_audio"}]}`), "messages[1].content[0].type", "not served yet"},
		{"chat", message(`{"role":"assistant","tool_calls":[{}]}`), "messages[1].tool_calls", "not served yet"},
		{"chat", message(`{"role":"user","content":"x","name":[]}`), "messages[1].name", "must be a string"},
		{"chat", chat(`"model":3`), "model", "must be a string; got a number"},
		{"chat", chat(`"model":"` + long + `"`), "model", "at most 256"},
		{"chat", chat(`"temperature":"hot"`), "temperature", "must be a number; got a string"},
		{"chat", chat(`"temperature":2.1`), "temperature", "between 0 and 2; got 2.1"},
		{"chat", chat(`"temperature":1e999`), "temperature", "between"},
		{"chat", chat(`"top_p":-0.1`), "top_p", "between 0 and 1"},
		{"chat", chat(`"top_k":1.5`), "top_k", "must be an integer; got 1.5"},
		{"chat", chat(`"top_k":-2`), "top_k", "at least -1"},
		{"chat", chat(`"min_p":2`), "min_p", "between"},
		{"chat", chat(`"typical_p":2`), "typical_p", "between"},
		{"chat", chat(`"presence_penalty":-2.5`), "presence_penalty", "between"},
		{"chat", chat(`"frequency_penalty":true`), "frequency_penalty", "must be a number; got a boolean"},
		{"chat", chat(`"repetition_penalty":0`), "repetition_penalty", "between"},
		{"chat", chat(`"logit_bias":[1]`), "logit_bias", "must be an object"},
		{"chat", chat(`"logit_bias":{"a":1}`), "logit_bias", "not a token id"},
		{"chat", chat(`"logit_bias":{"-1":1}`), "logit_bias", "not a token id"},
		{"chat", chat(`"logit_bias":{"07":1}`), "logit_bias", "not a token id"},
		{"chat", chat(`"logit_bias":{"7":101}`), "logit_bias.7", "between -100 and 100"},
		{"chat", chat(`"seed":1e30`), "seed", "64-bit"},
		{"chat", chat(`"seed":9223372036854775808`), "seed", "64-bit"},
		{"chat", chat(`"n":0`), "n", "between 1 and 128"},
		{"chat", chat(`"n":129`), "n", "between 1 and 128"},
		{"chat", chat(`"n":"2"`), "n", "must be an integer; got a string"},
		{"chat", chat(`"stop":5`), "stop", "got a number"},
		{"chat", chat(`"stop":["a","b","c","d","e"]`), "stop", "at most 4"},
		{"chat", chat(`"stop":["a",null]`), "stop", "must be a string; got null"},
		{"chat", chat(`"stop":""`), "stop", "empty"},
		{"chat", chat(`"stop":"` + long + `"`), "stop", "at most 1024"},
		{"chat", chat(`"max_tokens":0`), "max_tokens", "at least 1"},
		{"chat", chat(`"max_completion_tokens":-1`), "max_completion_tokens", "at least 1"},
		{"chat", chat(`"max_tokens":1e12`), "max_tokens", "at least 1"},
		{"chat", chat(`"logprobs":3`), "logprobs", "must be a boolean"},
		{"chat", chat(`"top_logprobs":3`), "top_logprobs", "only allowed when logprobs"},
		{"chat", chat(`"logprobs":true,"top_logprobs":21`), "top_logprobs", "between 0 and 20"},
		{"chat", chat(`"stream":"yes"`), "stream", "must be a boolean"},
		{"chat", chat(`"stream_options":{"include_usage":true}`), "stream_options", "only allowed when stream"},
		{"chat", chat(`"stream":true,"stream_options":{"include_usage":1}`), "stream_options.include_usage", "must be a boolean"},
		{"chat", chat(`"stream":true,"stream_options":[]`), "stream_options", "must be an object"},
		{"chat", chat(`"ignore_eos":1`), "ignore_eos", "must be a boolean"},
		{"chat", chat(`"priority":1001`), "priority", "between"},
		{"chat", chat(`"user":{}`), "user", "must be a string"},
		{"chat", chat(`"tools":[{"type":"function"}]`), "tools", "not served yet"},
		{"chat", chat(`"tools":{}`), "tools", "must be an array"},
		{"chat", chat(`"tool_choice":"auto"`), "tool_choice", "not served yet"},
		{"chat", chat(`"functions":[{}]`), "functions", "not served yet"},
		{"chat", chat(`"function_call":"auto"`), "function_call", "not served yet"},
		{"chat", chat(`"response_format":{"type":"json_object"}`), "response_format", "not served yet"},
		{"chat", chat(`"response_format":{"type":"json_schema","json_schema":{}}`), "response_format", "not served yet"},
		{"chat", chat(`"response_format":"text"`), "response_format", "must be an object"},
		{"chat", chat(`"audio":{}`), "audio", "not served yet"},
		{"chat", chat(`"modalities":["text","audio"]`), "modalities", "not served yet"},
		{"chat", chat(`"web_search_options":{}`), "web_search_options", "not served yet"},
		{"chat", chat(`"store":true`), "store", "not served yet"},
		{"chat", chat(`"guided_json":{}`), "guided_json", "not served yet"},
		{"chat", chat(`"grammar":"root ::= x"`), "grammar", "not served yet"},
		{"chat", chat(`"use_beam_search":true`), "use_beam_search", "not served yet"},
		{"text", `{}`, "prompt", "missing"},
		{"text", `{"prompt":7}`, "prompt", "got a number"},
		{"text", `{"prompt":[]}`, "prompt", "empty"},
		{"text", `{"prompt":[ ]}`, "prompt", "empty"},
		{"text", `{"prompt":[[]]}`, "prompt", "empty"},
		{"text", `{"prompt":[[1],[]]}`, "prompt", "empty"},
		{"text", `{"prompt":[null]}`, "prompt", "got null"},
		{"text", `{"prompt":[1,"a"]}`, "prompt", "not a token"},
		{"text", `{"prompt":[1,null]}`, "prompt", "not a token"},
		{"text", `{"prompt":[1,-2]}`, "prompt", "not a token"},
		{"text", `{"prompt":[1,2.5]}`, "prompt", "not a token"},
		{"text", `{"prompt":[4294967296]}`, "prompt", "not a token"},
		{"text", `{"prompt":["a",1]}`, "prompt", "mixes a string with a number"},
		{"text", `{"prompt":[[1],"a"]}`, "prompt", "mixes"},
		{"text", `{"prompt":["a","b","c"],"n":43}`, "n", "at most 128"},
		{"text", `{"prompt":[` + strings.Repeat(`"a",`, 128) + `"a"]}`, "prompt", "at most 128"},
		{"text", text(`"suffix":"end"`), "suffix", "not served yet"},
		{"text", text(`"best_of":2`), "best_of", "not served yet"},
		{"text", text(`"max_tokens":0`), "max_tokens", "only with echo"},
		{"text", text(`"echo":1`), "echo", "must be a boolean"},
		{"text", text(`"logprobs":true`), "logprobs", "must be an integer"},
		{"text", text(`"logprobs":21`), "logprobs", "between 0 and 20"},
		{"text", text(`"response_format":{"type":"json_object"}`), "response_format", "not served yet"},
		{"tokenize", `{}`, "content", "missing"},
		{"tokenize", `{"content":1}`, "content", "must be a string"},
		{"tokenize", `{"content":"a","add_special":"x"}`, "add_special", "must be a boolean"},
		{"detokenize", `{}`, "tokens", "missing"},
		{"detokenize", `{"tokens":"a"}`, "tokens", "must be an array"},
		{"detokenize", `{"tokens":[-1]}`, "tokens", "not a token"},
		{"template", `{}`, "messages", "at least one"},
		{"template", `{` + hi + `,"tools":[{}]}`, "tools", "not served yet"},
	} {
		err := decodeKind(c.kind, []byte(c.body))
		name := fmt.Sprintf("%s %.80s", c.kind, c.body)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if err.Status != 400 || err.Type != TypeInvalidRequest || err.Param != c.param || !strings.Contains(err.Message, c.says) {
			t.Errorf("%s: got param %q, %q; want param %q and %q", name, err.Param, err.Message, c.param, c.says)
		}
		if len(err.Message) > 500 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Message))
		}
	}
}

func decodeKind(kind string, body []byte) *Error {
	var err *Error
	switch kind {
	case "chat":
		_, err = DecodeChat(body, DefaultLimits())
	case "text":
		_, err = DecodeCompletion(body, DefaultLimits())
	case "tokenize":
		_, err = DecodeTokenize(body, DefaultLimits())
	case "detokenize":
		_, err = DecodeDetokenize(body, DefaultLimits())
	case "template":
		_, err = DecodeTemplate(body, DefaultLimits())
	}
	return err
}

func TestAcceptedHarmless(t *testing.T) {
	for _, c := range []struct{ kind, body string }{
		{"chat", `{` + hi + `,"store":false,"parallel_tool_calls":true,"reasoning_effort":"low","metadata":{}}`},
		{"chat", `{"messages":[{"role":"assistant","content":"x","tool_calls":[],"refusal":null}]}`},
		{"text", `{"prompt":"a","suffix":"","best_of":1,"logprobs":false}`},
		{"text", `{"prompt":"a","n":3,"best_of":3}`},
		{"detokenize", `{"tokens":[]}`},
		{"tokenize", `{"content":""}`},
	} {
		if err := decodeKind(c.kind, []byte(c.body)); err != nil {
			t.Errorf("%s %s: %v", c.kind, c.body, err)
		}
	}
}

// FuzzDecode holds what callers rely on: no panic, and either a request within
// every range or a 400.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{` + hi + `,"logit_bias":{"1":2},"stop":["a"],"logprobs":true,"top_logprobs":2,"seed":1.0}`,
		`{"prompt":[[1,2],[3]],"echo":true,"max_tokens":0,"logprobs":1,"n":2}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"content":"a\u0000b","add_special":true}`, `{"tokens":[1,2.0,null]}`, `[`, `{"a":"\`, `{"prompt":[ [1] , 2]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"chat", "text", "tokenize", "detokenize", "template"} {
			if err := decodeKind(kind, body); err != nil && (err.Status != 400 || err.Type != TypeInvalidRequest || err.Message == "") {
				t.Fatalf("%s: %+v", kind, err)
			}
		}
		check := func(p *Params) {
			if err := p.Sampling.Check(math.MaxInt32); err != nil {
				t.Fatalf("the engine refuses what was accepted: %v", err)
			}
			if p.N < 1 || p.N > 128 || len(p.Stop) > 4 || p.TopLogProbs > 20 || p.MaxTokens < 0 {
				t.Fatalf("out of its limits: %+v", p)
			}
		}
		if r, err := DecodeChat(body, DefaultLimits()); err == nil {
			check(&r.Params)
			if len(r.Messages) == 0 {
				t.Fatal("no message")
			}
		}
		if r, err := DecodeCompletion(body, DefaultLimits()); err == nil {
			check(&r.Params)
			for _, p := range r.Prompts {
				for _, tok := range p.Tokens {
					if tok < 0 {
						t.Fatalf("token %d", tok)
					}
				}
			}
			if len(r.Prompts) == 0 {
				t.Fatal("no prompt")
			}
		}
	})
}
