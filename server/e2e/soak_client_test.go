package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"llamero/bench"
)

// talker is a client of the soak: it has one conversation after another, and counts
// how their turns ended.
type talker struct {
	*rand.Rand
	client  openai.Client
	systems []string
	words   []string // texts to say, drawn from at random
	counts  *tally
}

// tally is a count of each thing that happened.
type tally struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	c.of[what]++
	c.mu.Unlock()
}

func newTalker(g *gateway, client *http.Client, seed uint64, key string, systems, words []string, c *tally) *talker {
	return &talker{
		Rand:    rand.New(rand.NewPCG(seed, 20)),
		client:  openai.NewClient(option.WithBaseURL(g.url+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0), option.WithHTTPClient(client)),
		systems: systems, words: words, counts: c,
	}
}

// texts are n texts of so many words.
func texts(seed uint64, n, words int) ([]string, error) {
	w, err := bench.New("disjoint", bench.Options{Seed: seed, Clients: n, Words: words, Tokens: 1})
	if err != nil {
		return nil, err
	}
	out := make([]string, n)
	for i, c := range w.Clients {
		out[i] = c[0].Messages[0].Content
	}
	return out, nil
}

func (k *talker) one(of []string) string { return of[k.IntN(len(of))] }

// run has conversations until ctx ends. A conversation that is under way is brought
// to its end.
func (k *talker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := k.converse(); err != nil {
			return err
		}
	}
	return nil
}

// errLeft: the client went before its answer was whole.
var errLeft = errors.New("left")

// converse has one to four turns.
func (k *talker) converse() error {
	if k.IntN(40) == 0 {
		return k.tooLong()
	}
	messages := []openai.ChatCompletionMessageParamUnion{openai.SystemMessage(k.one(k.systems)), openai.UserMessage(k.one(k.words))}
	if k.IntN(4) == 0 {
		messages = messages[1:] // nothing in common with others
	}
	for range 1 + k.IntN(4) {
		text, err := k.turn(messages)
		if errors.Is(err, errLeft) {
			return nil
		}
		if err != nil {
			return err
		}
		messages = append(messages, openai.AssistantMessage(text), openai.UserMessage(k.one(k.words)))
	}
	return nil
}

// turn asks, in one of the ways in which clients do, and returns what was said.
func (k *talker) turn(messages []openai.ChatCompletionMessageParamUnion) (string, error) {
	p := openai.ChatCompletionNewParams{Model: model, Messages: messages, MaxTokens: openai.Int(int64(1 + k.IntN(48))),
		Temperature: openai.Float(float64(k.IntN(2))), Seed: openai.Int(k.Int64N(1 << 40))}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	what := "answered"
	switch k.IntN(8) {
	case 0, 1:
		what = "left"
		left, leave := context.WithCancel(ctx)
		defer leave()
		defer time.AfterFunc(time.Duration(k.IntN(600))*time.Millisecond, leave).Stop()
		text, err := k.say(left, p)
		if err != nil && left.Err() != nil && ctx.Err() == nil {
			k.counts.add(what)
			return "", errLeft
		}
		return text, err
	case 2:
		what = "stopped early"
		p.Stop = openai.ChatCompletionNewParamsStopUnion{OfStringArray: []string{" the", ".", ","}}
	case 3:
		what = "two answers"
		p.N = openai.Int(2)
	}
	text, err := k.say(ctx, p)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	k.counts.add(what)
	return text, nil
}

// say sends a request, streamed or not, and returns its first answer.
func (k *talker) say(ctx context.Context, p openai.ChatCompletionNewParams) (string, error) {
	if k.IntN(2) == 0 {
		res, err := k.client.Chat.Completions.New(ctx, p)
		if err != nil {
			return "", err
		}
		return k.first(p, res.Choices)
	}
	stream := k.client.Chat.Completions.NewStreaming(ctx, p)
	defer stream.Close()
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			return "", errors.New("a chunk does not fit the others")
		}
	}
	if err := stream.Err(); err != nil {
		return "", err
	}
	return k.first(p, acc.Choices)
}

// first looks that an answer is whole.
func (k *talker) first(p openai.ChatCompletionNewParams, choices []openai.ChatCompletionChoice) (string, error) {
	if want := max(1, int(p.N.Value)); len(choices) != want {
		return "", fmt.Errorf("%d answers, want %d", len(choices), want)
	}
	for _, c := range choices {
		if c.FinishReason != "stop" && c.FinishReason != "length" {
			return "", fmt.Errorf("an answer finished with %q", c.FinishReason)
		}
	}
	return choices[0].Message.Content, nil
}

// tooLong asks what no slot can hold.
func (k *talker) tooLong() error {
	long := ""
	for range 40 {
		long += k.one(k.words)
	}
	_, err := k.turn([]openai.ChatCompletionMessageParamUnion{openai.UserMessage(long)})
	var refused *openai.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest && refused.Code == "context_length_exceeded" {
		k.counts.add("refused")
		return nil
	}
	if errors.Is(err, errLeft) {
		return nil
	}
	return fmt.Errorf("a prompt that is too long: %w", err)
}
