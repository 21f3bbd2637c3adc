package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"llamero/server/openai"
	"llamero/tokenizer"
)

// Options are a server's settings. The zero value of each field means its default.
type Options struct {
	Models []Model // at least one; the aliases differ
	// Keys are the API keys. With none, only clients on the loopback interface are
	// served, unless Open is set.
	Keys []Key
	Open bool

	Limits       openai.Limits // zero: openai.DefaultLimits
	BodyLimit    int           // bytes of a request's body; 4 MiB
	HeaderLimit  int           // bytes of a request's line and headers; 16 KiB
	MaxConns     int           // connections at once; 16,384
	ReadTimeout  time.Duration // for a whole request to arrive; 60 s
	IdleTimeout  time.Duration // for the next request on a kept connection; 120 s
	WriteTimeout time.Duration // for one write to a client that does not read; 30 s
	PingInterval time.Duration // between signs of life on a silent stream; 10 s
	WatchPeriod  time.Duration // between looks at the clients' sockets; 250 ms
	QueueTimeout time.Duration // in the queue, see loop.Submit; 0: the loop's own

	Logger   *slog.Logger // one line a request; nil: slog.Default
	Observer Observer
	// Content keeps messages and answers in Records' Answers.
	Content bool
	// Metrics serves GET /metrics, behind the API keys; nil: there is no such page.
	Metrics http.Handler
}

// Model is a served model.
type Model struct {
	Alias     string // the name that clients use
	Tokenizer tokenizer.Tokenizer
	Template  ChatTemplate
	Loop      Backend
	Created   time.Time
	MaxTokens int // bounds every answer; 0: the slot's end
}

// ChatTemplate renders a conversation up to where the assistant's answer begins.
// FromTemplate makes one of a *template.Template. A conversation that the template
// refuses is an *openai.Error.
type ChatTemplate interface {
	Render([]openai.Message) ([]tokenizer.Segment, error)
}

// Key is an API key. Its name is what appears in logs and is the tenant whose
// fair share requests take from.
type Key struct {
	Name, Secret string
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	if o.Limits == (openai.Limits{}) {
		o.Limits = openai.DefaultLimits()
	}
	num(&o.BodyLimit, 4<<20)
	num(&o.HeaderLimit, 16<<10)
	num(&o.MaxConns, 16<<10)
	def(&o.ReadTimeout, time.Minute)
	def(&o.IdleTimeout, 2*time.Minute)
	def(&o.WriteTimeout, 30*time.Second)
	def(&o.PingInterval, 10*time.Second)
	def(&o.WatchPeriod, 250*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// validate reports every problem.
func (o *Options) validate() error {
	var errs []error
	if len(o.Models) == 0 {
		errs = append(errs, errors.New("no model is served"))
	}
	aliases := map[string]bool{}
	for i, m := range o.Models {
		if m.Alias == "" {
			errs = append(errs, fmt.Errorf("model %d has no alias", i))
		}
		if aliases[m.Alias] {
			errs = append(errs, fmt.Errorf("the alias %q is given twice", m.Alias))
		}
		aliases[m.Alias] = true
		if m.Tokenizer == nil || m.Template == nil || m.Loop == nil {
			errs = append(errs, fmt.Errorf("model %q needs a tokenizer, a template and a loop", m.Alias))
		}
	}
	names := map[string]bool{}
	for i, k := range o.Keys {
		switch {
		case k.Name == "":
			errs = append(errs, fmt.Errorf("API key %d has no name", i))
		case k.Secret == "":
			errs = append(errs, fmt.Errorf("API key %q has no secret", k.Name))
		case names[k.Name]:
			errs = append(errs, fmt.Errorf("the API key name %q is given twice", k.Name))
		}
		names[k.Name] = true
	}
	return errors.Join(errs...)
}
