package bench

import (
	"fmt"
	"slices"
)

// Message is one turn of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Request is one chat completion, greedy and past the end-of-text token, so that
// every server writes the same count of tokens.
type Request struct {
	Messages  []Message
	MaxTokens int
	Whole     bool // not streamed: one JSON answer
}

// Workload is what a run sends. Clients run at once; the requests of one client
// follow each other, each waiting for the answer before it.
type Workload struct {
	Name    string
	Clients [][]Request
}

// Requests counts the requests of all clients.
func (w Workload) Requests() int {
	n := 0
	for _, c := range w.Clients {
		n += len(c)
	}
	return n
}

// Keep returns the workload with only those clients whose first request fits.
func (w Workload) Keep(fits func(Request) bool) Workload {
	kept := Workload{Name: w.Name}
	for _, c := range w.Clients {
		if len(c) > 0 && fits(c[0]) {
			kept.Clients = append(kept.Clients, c)
		}
	}
	return kept
}

// Options size a workload. The same options give the same bytes.
type Options struct {
	Seed    uint64
	Clients int
	Words   int // of each prompt's long part
	Tokens  int // to generate for each request
}

// Upper limits of Options: a typing error must not become a run of hours.
const (
	MaxClients = 4096
	MaxWords   = 100_000
	MaxTokens  = 100_000
)

func (o Options) validate() error {
	switch {
	case o.Clients < 1 || o.Clients > MaxClients:
		return fmt.Errorf("clients: %d is not in 1…%d", o.Clients, MaxClients)
	case o.Words < 1 || o.Words > MaxWords:
		return fmt.Errorf("words: %d is not in 1…%d", o.Words, MaxWords)
	case o.Tokens < 1 || o.Tokens > MaxTokens:
		return fmt.Errorf("tokens: %d is not in 1…%d", o.Tokens, MaxTokens)
	}
	return nil
}

// shapes make the request of client i.
var shapes = map[string]func(o Options, i int) Request{
	"single":   disjoint,
	"disjoint": disjoint,
	"shared":   shared,
	"ragged":   ragged,
}

// Names lists the workloads that New knows.
func Names() []string {
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// New makes a workload by name:
//
//   - single: one client, one prompt of its own
//   - disjoint: each client has a prompt of its own, different from its first word
//   - shared: one long system prompt, a question of each client's own
//   - ragged: mixed prompt lengths; of four clients, three end after an eighth
//     of the tokens
func New(name string, o Options) (Workload, error) {
	shape, ok := shapes[name]
	if !ok {
		return Workload{}, fmt.Errorf("workload %q is not one of %v", name, Names())
	}
	if name == "single" {
		o.Clients = 1
	}
	if err := o.validate(); err != nil {
		return Workload{}, fmt.Errorf("workload %s: %w", name, err)
	}
	w := Workload{Name: name, Clients: make([][]Request, o.Clients)}
	for i := range w.Clients {
		w.Clients[i] = []Request{shape(o, i)}
	}
	return w, nil
}

func disjoint(o Options, i int) Request {
	r := rng(o.Seed, i)
	text := fmt.Sprintf("%d %s\n\n%s", 10_000+r.IntN(90_000), prose(r, o.Words), pick(r, questions))
	return Request{Messages: []Message{{"user", text}}, MaxTokens: o.Tokens}
}

// sharedStream keeps the random numbers of the common prompt apart from those
// of any client.
const sharedStream = MaxClients

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
