package bench

import (
	"fmt"
	"time"
)

// shape makes the requests of client i of a workload.
type shape struct {
	about  string
	client func(o Options, i int) []Request
}

var shapes = map[string]shape{
	"single":   {"one client, one prompt of its own", alone(disjoint)},
	"shared":   {"one long system prompt, a question of each client's own", alone(shared)},
	"disjoint": {"each client has a prompt of its own, different from its first word", alone(disjoint)},
	"turns":    {"conversations of several turns, each turn with the server's answers before it", turns},
	"copy":     {"each client asks for its text to be repeated word for word", alone(verbatim)},
	"ragged":   {"mixed prompt lengths; of four clients, three end after an eighth of the tokens", alone(ragged)},
	"poisson":  {"open loop: prompts of their own arrive at random, at a rate, whether or not earlier ones are answered", alone(disjoint)},
}

// Streams of random numbers that are kept apart from those of any client.
const (
	sharedStream = MaxClients + iota
	arrivalStream
)

// alone is a client with one request.
func alone(f func(o Options, i int) Request) func(Options, int) []Request {
	return func(o Options, i int) []Request { return []Request{f(o, i)} }
}

func disjoint(o Options, i int) Request {
	r := rng(o.Seed, i)
	text := fmt.Sprintf("%d %s\n\n%s", 10_000+r.IntN(90_000), prose(r, o.Words), pick(r, questions))
	return Request{Messages: []Message{{"user", text}}, MaxTokens: o.Tokens}
}

func shared(o Options, i int) Request {
	r := rng(o.Seed, i)
	question := fmt.Sprintf("About the %s %s: %s", pick(r, adjectives), pick(r, nouns), pick(r, questions))
	return Request{
		Messages:  []Message{{"system", prose(rng(o.Seed, sharedStream), o.Words)}, {"user", question}},
		MaxTokens: o.Tokens,
	}
}

// Stays tells whether client i of a ragged workload writes all its tokens.
func Stays(i int) bool { return i%4 == 0 }

func ragged(o Options, i int) Request {
	r := rng(o.Seed, i)
	o.Words = max(1, o.Words/4+r.IntN(o.Words-o.Words/4))
	request := disjoint(o, i)
	if !Stays(i) {
		request.MaxTokens = max(1, o.Tokens/8)
	}
	return request
}

func verbatim(o Options, i int) Request {
	r := rng(o.Seed, i)
	text := fmt.Sprintf("Repeat the following text word for word, and write nothing else.\n\n%d %s",
		10_000+r.IntN(90_000), prose(r, o.Words))
	return Request{Messages: []Message{{"user", text}}, MaxTokens: o.Tokens}
}

// turns begins like disjoint, behind a system prompt if there is one; what is asked later
// is an eighth as long.
func turns(o Options, i int) []Request {
	first := disjoint(o, i)
	if o.System > 0 {
		system := Message{"system", prose(rng(o.Seed, sharedStream), o.System)}
		first.Messages = append([]Message{system}, first.Messages...)
	}
	requests := []Request{first}
	r := rng(o.Seed, i+arrivalStream+1)
	for len(requests) < o.Turns {
		text := prose(r, max(1, o.Words/8)) + " " + pick(r, questions)
		requests = append(requests, Request{Messages: []Message{{"user", text}}, MaxTokens: o.Tokens, Follows: true})
	}
	return requests
}

// arrive gives each client's first request a due time: a Poisson process, whose
// gaps are exponential.
func (w Workload) arrive(o Options) {
	r := rng(o.Seed, arrivalStream)
	var at float64 // seconds
	for _, c := range w.Clients {
		at += r.ExpFloat64() / o.Rate
		c[0].At = max(1, time.Duration(at*float64(time.Second)))
	}
}
