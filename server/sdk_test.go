package server

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"llamero/scheduler"
	"llamero/scheduler/loop"
)

// The official SDK as the judge of our shapes.
func client(ts *testServer) *sdk.Client {
	c := sdk.NewClient(option.WithBaseURL(ts.url+"/v1"), option.WithAPIKey("sk-1"), option.WithMaxRetries(2))
	return &c
}

func ask() sdk.ChatCompletionNewParams {
	return sdk.ChatCompletionNewParams{Model: "m", Messages: []sdk.ChatCompletionMessageParamUnion{sdk.UserMessage("hi")}}
}

func TestSDKChat(t *testing.T) {
	ts := start(t, newFake(answer(scheduler.FinishLength, "Lla", "ma")), func(o *Options) { o.Keys = []Key{{"ann", "sk-1"}} })
	p := ask()
	p.N = sdk.Int(2)
	p.Logprobs = sdk.Bool(true)
	p.TopLogprobs = sdk.Int(1)
	got, err := client(ts).Chat.Completions.New(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Choices[1]
	if c.Message.Content != "Llama" || c.FinishReason != "length" || c.Index != 1 || len(c.Logprobs.Content) != 5 || len(c.Logprobs.Content[0].TopLogprobs) != 1 {
		t.Errorf("%+v", got)
	}
	if u := got.Usage; u.CompletionTokens != 10 || u.PromptTokensDetails.CachedTokens != 2 || u.TotalTokens != u.PromptTokens+10 {
		t.Errorf("usage %+v", u)
	}
}

func TestSDKStream(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, func(o *Options) { o.PingInterval = 5 * time.Millisecond }) // comments between events
	go func() {
		s := fake.stream(t, 0)
		s.admit(3)
		for _, part := range []string{"Lla", "ma \xf0\x9f", "\xa6\x99"} {
			<-s.timedOut // a ping goes out
			s.say(0, part)
		}
		s.done(0, scheduler.FinishStop)
	}()
	p := ask()
	p.StreamOptions = sdk.ChatCompletionStreamOptionsParam{IncludeUsage: sdk.Bool(true)}
	stream := client(ts).Chat.Completions.NewStreaming(context.Background(), p)
	defer stream.Close()
	acc := sdk.ChatCompletionAccumulator{}
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Fatal("the accumulator refuses a chunk")
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if c := acc.Choices[0]; c.Message.Content != "Llama 🦙" || c.Message.Role != "assistant" || c.FinishReason != "stop" {
		t.Errorf("%+v", c)
	}
	if acc.Usage.CompletionTokens != 10 || acc.Usage.PromptTokensDetails.CachedTokens != 3 {
		t.Errorf("usage %+v", acc.Usage)
	}
}

func TestSDKCompletion(t *testing.T) {
	ts := start(t, newFake(answer(scheduler.FinishStop, "Llama")), nil)
	p := sdk.CompletionNewParams{Model: "m", Prompt: sdk.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"a", "b"}}, Logprobs: sdk.Int(1), Echo: sdk.Bool(true)}
	got, err := client(ts).Completions.New(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 2 || got.Choices[1].Text != "bLlama" || len(got.Choices[1].Logprobs.Tokens) != 7 {
		t.Errorf("%+v", got)
	}
	stream := client(ts).Completions.NewStreaming(context.Background(), p)
	defer stream.Close()
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Text
	}
	if err := stream.Err(); err != nil || strings.Count(text, "Llama") != 2 {
		t.Errorf("%q, %v", text, err)
	}
}

func TestSDKModels(t *testing.T) {
	ts := start(t, newFake(silent), nil)
	page, err := client(ts).Models.List(context.Background())
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != "m" {
		t.Fatalf("%+v, %v", page, err)
	}
	if m, err := client(ts).Models.Get(context.Background(), "m"); err != nil || m.ID != "m" || m.Created != 1700000000 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// Which errors the SDK tries again, and what its users see.
func TestSDKErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		submit  error
		script  func(*fakeStream)
		change  func(*sdk.ChatCompletionNewParams)
		status  int
		code    string
		param   string
		attempt int64
	}{
		{name: "busy", submit: &loop.BusyError{RetryAfter: 5 * time.Millisecond}, status: 429, code: "rate_limit_exceeded", attempt: 3},
		{name: "internal", submit: errors.New("secret"), status: 500, attempt: 1},
		{name: "too long", submit: &scheduler.TooLongError{Tokens: 9, Limit: 8}, status: 400, code: "context_length_exceeded", param: "messages", attempt: 1},
		{name: "engine", script: answer(scheduler.FinishError), status: 500, attempt: 1},
		{name: "model", change: func(p *sdk.ChatCompletionNewParams) { p.Model = "x" }, status: 404, code: "model_not_found", param: "model", attempt: 0},
		{name: "range", change: func(p *sdk.ChatCompletionNewParams) { p.Temperature = sdk.Float(3) }, status: 400, param: "temperature", attempt: 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := newFake(c.script)
			var tries atomic.Int64
			fake.submit = func(scheduler.Request) error { tries.Add(1); return c.submit }
			ts := start(t, fake, nil)
			p := ask()
			if c.change != nil {
				c.change(&p)
			}
			_, err := client(ts).Chat.Completions.New(context.Background(), p)
			var api *sdk.Error
			if !errors.As(err, &api) {
				t.Fatalf("%T: %v", err, err)
			}
			if api.StatusCode != c.status || api.Code != c.code || api.Param != c.param || api.Message == "" || strings.Contains(api.Message, "secret") {
				t.Errorf("%d %q %q: %s", api.StatusCode, api.Code, api.Param, api.Message)
			}
			if tries.Load() != c.attempt {
				t.Errorf("%d attempts reached the backend, want %d", tries.Load(), c.attempt)
			}
		})
	}
}

// A busy server that recovers is not noticed by the SDK's user.
func TestSDKRecovers(t *testing.T) {
	fake := newFake(answer(scheduler.FinishStop, "a"))
	var tries atomic.Int64
	fake.submit = func(scheduler.Request) error {
		if tries.Add(1) <= 2 {
			return &loop.BusyError{RetryAfter: time.Millisecond}
		}
		return nil
	}
	ts := start(t, fake, nil)
	if _, err := client(ts).Chat.Completions.New(context.Background(), ask()); err != nil || tries.Load() != 3 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
}

// A failure in mid-stream reaches the SDK's user as an error.
func TestSDKStreamFails(t *testing.T) {
	fake := newFake(silent)
	ts := start(t, fake, nil)
	go func() {
		s := fake.stream(t, 0)
		s.admit(0)
		s.say(0, "a")
		s.put(scheduler.Event{Kind: scheduler.EventDone, Finish: scheduler.FinishError, Err: errors.New("secret")})
	}()
	stream := client(ts).Chat.Completions.NewStreaming(context.Background(), ask())
	defer stream.Close()
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			if c.FinishReason != "" {
				t.Errorf("a failed answer has finish_reason %q", c.FinishReason)
			}
		}
	}
	if err := stream.Err(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}

// What was guessed for a request stands in its usage if it asks, where OpenAI's SDK has a
// place for it.
func TestSDKSpeculation(t *testing.T) {
	for _, asked := range []bool{true, false} {
		ts := start(t, newFake(func(s *fakeStream) {
			s.admit(0)
			for _, n := range [][2]int{{5, 3}, {0, 0}, {4, 4}} {
				e := s.tokens(0, "Llama")
				e.Guessed, e.Accepted = n[0], n[1]
				s.put(e)
			}
			s.done(0, scheduler.FinishStop)
		}), func(o *Options) { o.Keys = []Key{{"ann", "sk-1"}} })
		var opts []option.RequestOption
		if asked {
			opts = append(opts, option.WithJSONSet("include_speculation", true))
		}
		got, err := client(ts).Chat.Completions.New(context.Background(), ask(), opts...)
		if err != nil {
			t.Fatal(err)
		}
		d := got.Usage.CompletionTokensDetails
		if d.JSON.AcceptedPredictionTokens.Valid() != asked || asked && (d.AcceptedPredictionTokens != 7 || d.RejectedPredictionTokens != 2) {
			t.Errorf("asked %v: %s", asked, got.Usage.RawJSON())
		}
	}
}
