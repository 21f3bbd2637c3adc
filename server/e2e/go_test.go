package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func goClient(g *gateway) openai.Client {
	return openai.NewClient(option.WithBaseURL(g.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	t.Cleanup(cancel)
	return ctx
}

func chat(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       model,
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
		Temperature: openai.Float(0),
		MaxTokens:   openai.Int(16),
	}
}

func TestGoCompletion(t *testing.T) {
	c := goClient(running(t))
	// The one thing that a model of this size surely knows.
	res, err := c.Completions.New(testContext(t), openai.CompletionNewParams{
		Model: model, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("The capital of France is")},
		MaxTokens: openai.Int(4), Temperature: openai.Float(0),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Choices[0].Text; !strings.Contains(got, "Paris") {
		t.Errorf("the capital of France is %q", got)
	}
	if res.Usage.PromptTokens != 5 || res.Usage.CompletionTokens != 4 || res.Choices[0].FinishReason != "length" {
		t.Errorf("usage %+v, finish %q", res.Usage, res.Choices[0].FinishReason)
	}
}

// A stream adds up to the answer that is not streamed, and reports its usage.
func TestGoChatStreamed(t *testing.T) {
	c := goClient(running(t))
	whole, err := c.Chat.Completions.New(testContext(t), chat("Name three animals."))
	if err != nil {
		t.Fatal(err)
	}
	p := chat("Name three animals.")
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(testContext(t), p)
	defer stream.Close()
	var acc openai.ChatCompletionAccumulator
	chunks := 0
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Error("a chunk does not fit the others")
		}
		chunks++
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if len(acc.Choices) != 1 || acc.Choices[0].Message.Content == "" || acc.Choices[0].Message.Content != whole.Choices[0].Message.Content {
		t.Fatalf("streamed %+v\nwhole %+v", acc.Choices, whole.Choices)
	}
	if acc.Choices[0].FinishReason != whole.Choices[0].FinishReason || string(acc.Choices[0].Message.Role) != "assistant" {
		t.Errorf("finish %q, role %q", acc.Choices[0].FinishReason, acc.Choices[0].Message.Role)
	}
	if acc.Usage.CompletionTokens == 0 || acc.Usage.CompletionTokens != whole.Usage.CompletionTokens || acc.Usage.PromptTokens != whole.Usage.PromptTokens {
		t.Errorf("usage %+v, not streamed %+v", acc.Usage, whole.Usage)
	}
	if chunks < 3 {
		t.Errorf("only %d chunks", chunks)
	}
}

// Several choices of one request differ; the same seed gives the same ones again.
func TestGoChoicesAndSeed(t *testing.T) {
	c := goClient(running(t))
	ask := func(seed int64) []string {
		p := chat("Tell me a story.")
		p.N, p.Seed, p.Temperature = openai.Int(3), openai.Int(seed), openai.Float(1)
		res, err := c.Chat.Completions.New(testContext(t), p)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Choices) != 3 {
			t.Fatalf("%d choices", len(res.Choices))
		}
		out := make([]string, 3)
		for _, ch := range res.Choices {
			out[ch.Index] = ch.Message.Content
		}
		return out
	}
	first := ask(7)
	if first[0] == first[1] && first[1] == first[2] {
		t.Errorf("all choices are %q", first[0])
	}
	if again := ask(7); strings.Join(again, "|") != strings.Join(first, "|") {
		t.Errorf("the same seed gave %q, then %q", first, again)
	}
	if other := ask(8); strings.Join(other, "|") == strings.Join(first, "|") {
		t.Errorf("another seed gave the same %q", first)
	}
}

func TestGoLogProbs(t *testing.T) {
	c := goClient(running(t))
	p := chat("Count to five.")
	p.Logprobs, p.TopLogprobs = openai.Bool(true), openai.Int(3)
	res, err := c.Chat.Completions.New(testContext(t), p)
	if err != nil {
		t.Fatal(err)
	}
	content := res.Choices[0].Logprobs.Content
	if int64(len(content)) != res.Usage.CompletionTokens {
		t.Fatalf("%d log-probabilities for %d tokens", len(content), res.Usage.CompletionTokens)
	}
	var text strings.Builder
	for i, tok := range content {
		text.WriteString(tok.Token)
		if len(tok.TopLogprobs) != 3 {
			t.Fatalf("token %d has %d alternatives", i, len(tok.TopLogprobs))
		}
		// Greedy: what was taken is the most probable one.
		if tok.Logprob > 0 || tok.TopLogprobs[0].Token != tok.Token || tok.TopLogprobs[0].Logprob != tok.Logprob {
			t.Errorf("token %d: %+v", i, tok)
		}
	}
	if text.String() != res.Choices[0].Message.Content {
		t.Errorf("tokens %q, content %q", text.String(), res.Choices[0].Message.Content)
	}
}

// A stop string ends the answer before it, streamed or not.
func TestGoStop(t *testing.T) {
	c := goClient(running(t))
	p := chat("Write a list of fruits.")
	p.MaxTokens = openai.Int(32)
	res, err := c.Chat.Completions.New(testContext(t), p)
	if err != nil {
		t.Fatal(err)
	}
	text := res.Choices[0].Message.Content
	if len(text) < 12 {
		t.Fatalf("too short to cut: %q", text)
	}
	// Four bytes from the middle: they lie across tokens as often as not.
	at := strings.IndexByte(text[4:], ' ') + 4
	stop := text[at : at+4]
	p.Stop = openai.ChatCompletionNewParamsStopUnion{OfString: openai.String(stop)}
	want, _, _ := strings.Cut(text, stop)
	res, err = c.Chat.Completions.New(testContext(t), p)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Choices[0]; got.Message.Content != want || got.FinishReason != "stop" {
		t.Errorf("stop %q: %q, %s; want %q", stop, got.Message.Content, got.FinishReason, want)
	}
	stream := c.Chat.Completions.NewStreaming(testContext(t), p)
	defer stream.Close()
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if got := acc.Choices[0]; got.Message.Content != want || got.FinishReason != "stop" {
		t.Errorf("streamed, stop %q: %q, %s; want %q", stop, got.Message.Content, got.FinishReason, want)
	}
}

func TestGoErrors(t *testing.T) {
	c := goClient(running(t))
	unknown := chat("hi")
	unknown.Model = "gpt-none"
	hot := chat("hi")
	hot.Temperature = openai.Float(9)
	long := chat(strings.Repeat("llama ", 2000))
	tests := []struct {
		name   string
		p      openai.ChatCompletionNewParams
		status int
		code   string
		param  string
	}{
		{"unknown model", unknown, 404, "model_not_found", "model"},
		{"out of range", hot, 400, "", "temperature"},
		{"too long", long, 400, "context_length_exceeded", "messages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Chat.Completions.New(testContext(t), tt.p)
			var api *openai.Error
			if !errors.As(err, &api) {
				t.Fatalf("error %v", err)
			}
			if api.StatusCode != tt.status || tt.code != "" && api.Code != tt.code || api.Param != tt.param || api.Message == "" {
				t.Errorf("status %d, code %q, param %q, message %q", api.StatusCode, api.Code, api.Param, api.Message)
			}
		})
	}
}

func TestGoModels(t *testing.T) {
	c := goClient(running(t))
	page, err := c.Models.List(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Data) != 1 || page.Data[0].ID != model {
		t.Errorf("%+v", page.Data)
	}
	if m, err := c.Models.Get(testContext(t), model); err != nil || m.ID != model {
		t.Errorf("%+v, %v", m, err)
	}
}

// Many clients at once each get what they would get alone: a whole answer.
func TestGoManyClients(t *testing.T) {
	c := goClient(running(t))
	const clients = 12 // three times the slots
	errs := make(chan error, clients)
	for range clients {
		go func() {
			res, err := c.Chat.Completions.New(testContext(t), chat("Say something."))
			if err == nil && res.Usage.CompletionTokens == 0 {
				err = errors.New("an empty answer")
			}
			errs <- err
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
