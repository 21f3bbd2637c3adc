package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"llamero/bench"
)

// config holds the flags of all sub-commands; each reads what it needs.
type config struct {
	llamero string
	peer    string
	model   string
	lib     string
	layout  string

	threads   int
	slots     int
	context   int // tokens a slot
	queue     int
	targetITL time.Duration
	curve     durations
	raw       time.Duration

	seed    uint64
	rounds  int
	clients int
	words   int
	tokens  int
}

// defaults that differ from one sub-command to the next.
var defaults = map[string]config{
	"show2": {rounds: 5, words: 60, tokens: 192},
	"show3": {rounds: 5, words: 700, tokens: 64, clients: 32},
	"show4": {rounds: 3, words: 60, tokens: 192, clients: 32},
	"show5": {rounds: 5, words: 700, tokens: 1200, clients: 200, queue: 256},
	"show6": {rounds: 1, words: 60, tokens: 16, clients: 500, queue: 64},
}

func parse(c command, args []string) (*config, error) {
	d := defaults[c.name]
	cfg := &config{}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.StringVar(&cfg.llamero, "llamero", "bin/llamero", "Llamero's `binary`; empty: the peer alone")
	fs.StringVar(&cfg.peer, "peer", "", "llama-server's `binary`; empty: Llamero alone")
	fs.StringVar(&cfg.model, "model", "", "GGUF `file` that both serve (required)")
	fs.StringVar(&cfg.lib, "lib", "", "`folder` of Llamero's llama.cpp libraries; empty: its own default")
	fs.StringVar(&cfg.layout, "layout", "auto", "Llamero's KV `layout`: auto, split or unified")
	fs.IntVar(&cfg.threads, "threads", 2, "compute threads of each server")
	fs.IntVar(&cfg.slots, "slots", 32, "slots of each server")
	fs.IntVar(&cfg.context, "context", 2048, "tokens a slot")
	fs.IntVar(&cfg.queue, "queue", d.queue, "Llamero's queue; 0: its own default")
	fs.DurationVar(&cfg.targetITL, "target-itl", 0, "Llamero's latency target; 0: its own default")
	fs.Uint64Var(&cfg.seed, "seed", 1, "seed of the prompts")
	fs.IntVar(&cfg.rounds, "rounds", d.rounds, "rounds, in which the servers take turns")
	fs.IntVar(&cfg.words, "words", d.words, "words of a prompt")
	fs.IntVar(&cfg.tokens, "tokens", d.tokens, "tokens to generate")
	switch c.name {
	case "show2":
		fs.DurationVar(&cfg.raw, "raw", 0, "time a token of the plain loop over the binding, to compare with")
	case "show3":
		fs.Var(&cfg.curve, "curve", "comma-separated latency targets to run Llamero with, after the rounds; \"none\": no curve")
		fs.IntVar(&cfg.clients, "clients", d.clients, "streams at once")
		cfg.curve = durations{50 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond,
			200 * time.Millisecond, 300 * time.Millisecond, 500 * time.Millisecond, time.Second}
	case "show4", "show5", "show6":
		fs.IntVar(&cfg.clients, "clients", d.clients, "clients at once")
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return cfg, cfg.validate()
}

// validate names every flag that is wrong.
func (c *config) validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	between := func(name string, value, low, high int) {
		require(value >= low && value <= high, "--%s: %d is not in %d…%d", name, value, low, high)
	}
	require(c.llamero != "" || c.peer != "", "--llamero or --peer: one is needed")
	for name, file := range map[string]string{"llamero": c.llamero, "peer": c.peer, "model": c.model, "lib": c.lib} {
		if file != "" {
			_, err := os.Stat(file)
			require(err == nil, "--%s: %w", name, err)
		}
	}
	require(c.model != "", "--model: a GGUF file is needed")
	between("threads", c.threads, 1, 1024)
	between("slots", c.slots, 1, 256)
	between("context", c.context, 64, 1<<20)
	between("queue", c.queue, 0, 1<<20)
	between("rounds", c.rounds, 1, 100)
	between("words", c.words, 1, bench.MaxWords)
	between("tokens", c.tokens, 1, bench.MaxTokens)
	between("clients", c.clients, 0, bench.MaxClients)
	for _, d := range append(durations{c.targetITL, c.raw}, c.curve...) {
		require(d >= 0 && d <= time.Minute, "a latency of %s is not in 0…1m", d)
	}
	return errors.Join(errs...)
}

// durations is a comma-separated list.
type durations []time.Duration

func (d *durations) String() string {
	var s []string
	for _, v := range *d {
		s = append(s, v.String())
	}
	return strings.Join(s, ",")
}

func (d *durations) Set(s string) error {
	*d = nil
	if s == "none" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		v, err := time.ParseDuration(part)
		if err != nil {
			return err
		}
		*d = append(*d, v)
	}
	return nil
}
