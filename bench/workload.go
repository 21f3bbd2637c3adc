package bench

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
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
	// Follows continues a conversation: the messages of the client's request before
	// it, and the server's answer to them, come before Messages.
	Follows bool
	// At is when the request is due, counted from the start of the run; its latencies
	// count from then, however late it is sent. 0: as soon as the client is free.
	At time.Duration
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
	Seed    uint64  `json:"seed"`
	Clients int     `json:"clients"`
	Words   int     `json:"words"`                  // of each prompt's long part
	Tokens  int     `json:"tokens"`                 // to generate for each request
	Turns   int     `json:"turns,omitempty"`        // of each conversation; workload turns
	System  int     `json:"system_words,omitempty"` // of a system prompt that all conversations have; workload turns, 0: none
	Rate    float64 `json:"rate,omitempty"`         // requests a second; workload poisson
}

// Upper limits of Options: a typing error must not become a run of hours.
const (
	MaxClients  = 4096
	MaxWords    = 100_000
	MaxTokens   = 100_000
	MaxTurns    = 100
	MaxRate     = 10_000
	maxArrivals = time.Hour // from the first request's due time to the last one's
)

// Check says everything that is wrong with the options for a workload, each
// problem beginning with the option's name.
func (o Options) Check(workload string) error {
	if _, ok := shapes[workload]; !ok {
		return fmt.Errorf("workload: %q is not one of %v", workload, Names())
	}
	var errs []error
	between := func(name string, value, most int) {
		if value < 1 || value > most {
			errs = append(errs, fmt.Errorf("%s: %d is not in 1…%d", name, value, most))
		}
	}
	between("clients", o.Clients, MaxClients)
	between("words", o.Words, MaxWords)
	between("tokens", o.Tokens, MaxTokens)
	switch workload {
	case "turns":
		between("turns", o.Turns, MaxTurns)
		if o.System < 0 || o.System > MaxWords {
			errs = append(errs, fmt.Errorf("system-words: %d is not in 0…%d", o.System, MaxWords))
		}
	case "poisson":
		if !(o.Rate > 0 && o.Rate <= MaxRate) { // NaN fails
			errs = append(errs, fmt.Errorf("rate: %v is not above 0 and at most %d", o.Rate, MaxRate))
		} else if float64(o.Clients)/o.Rate > maxArrivals.Seconds() {
			errs = append(errs, fmt.Errorf("rate: %d requests at %v a second take longer than %s", o.Clients, o.Rate, maxArrivals))
		}
	}
	return errors.Join(errs...)
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

// About describes a workload in a few words; "" if New does not know it.
func About(name string) string { return shapes[name].about }

// New makes a workload by name; see About for what each is. No two workloads have
// a prompt in common: a server must not profit from what another one sent.
func New(name string, o Options) (Workload, error) {
	if name == "single" {
		o.Clients = 1
	}
	if err := o.Check(name); err != nil {
		return Workload{}, fmt.Errorf("workload %s: %w", name, err)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	o.Seed ^= h.Sum64()
	w := Workload{Name: name, Clients: make([][]Request, o.Clients)}
	for i := range w.Clients {
		w.Clients[i] = shapes[name].client(o, i)
	}
	if name == "poisson" {
		w.arrive(o)
	}
	return w, nil
}
