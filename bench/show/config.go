package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"llamero/bench"
)

// config holds the flags of all sub-commands; each reads what it needs.
type config struct {
	bench.Serving
	llamero string
	peer    string
	redis   string // redis-server's binary
	draft   string // a draft model's GGUF file
	prompts string // JSONL file of prompts by domain
	each    int    // prompts of each domain

	seed    uint64
	rounds  int
	clients int
	words   int
	tokens  int
}

// defaults that differ from one sub-command to the next.
var defaults = map[string]config{
	"show4": {rounds: 3, words: 60, tokens: 192, clients: 32},
	"show5": {rounds: 5, words: 700, tokens: 1200, clients: 200, Serving: bench.Serving{Queue: 256}},
	"show6": {rounds: 1, words: 60, tokens: 16, clients: 500, Serving: bench.Serving{Queue: 64}},
	"show7": {rounds: 5, words: 700, tokens: 16, clients: 1},
	"show8": {rounds: 2, words: 60, tokens: 96, clients: 1},
}

func parse(c command, args []string) (*config, error) {
	d := defaults[c.name]
	cfg := &config{}
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.StringVar(&cfg.llamero, "llamero", "bin/llamero", "Llamero's `binary`; empty: the peer alone")
	fs.StringVar(&cfg.peer, "peer", "", "llama-server's `binary`; empty: Llamero alone")
	fs.StringVar(&cfg.redis, "redis-server", "redis-server", "`binary` of the Redis that show7 starts")
	fs.StringVar(&cfg.draft, "draft", "", "draft model's GGUF `file`, for show8")
	fs.StringVar(&cfg.prompts, "prompts", "", "JSONL `file` with a domain and messages a line, for show8; models/distill's generate writes one")
	fs.IntVar(&cfg.each, "each", 4, "prompts of each domain, for show8")
	fs.StringVar(&cfg.Model, "model", "", "GGUF `file` that both serve (required)")
	fs.StringVar(&cfg.Lib, "lib", "", "`folder` of Llamero's llama.cpp libraries; empty: its own default")
	fs.StringVar(&cfg.Layout, "layout", "auto", "Llamero's KV `layout`: auto, split or unified")
	fs.IntVar(&cfg.Threads, "threads", 2, "compute threads of each server")
	fs.IntVar(&cfg.Slots, "slots", 32, "slots of each server")
	fs.IntVar(&cfg.Context, "context", 2048, "tokens a slot")
	fs.IntVar(&cfg.Queue, "queue", d.Queue, "Llamero's queue; 0: its own default")
	fs.DurationVar(&cfg.TargetITL, "target-itl", 0, "Llamero's latency target; 0: its own default")
	fs.Uint64Var(&cfg.seed, "seed", 1, "seed of the prompts")
	fs.IntVar(&cfg.rounds, "rounds", d.rounds, "rounds")
	fs.IntVar(&cfg.words, "words", d.words, "words of a prompt")
	fs.IntVar(&cfg.tokens, "tokens", d.tokens, "tokens to generate")
	fs.IntVar(&cfg.clients, "clients", d.clients, "clients at once")
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
	for name, file := range map[string]string{"llamero": c.llamero, "peer": c.peer, "model": c.Model, "lib": c.Lib, "draft": c.draft, "prompts": c.prompts} {
		if file != "" {
			_, err := os.Stat(file)
			require(err == nil, "--%s: %w", name, err)
		}
	}
	require(c.Model != "", "--model: a GGUF file is needed")
	between("threads", c.Threads, 1, 1024)
	between("slots", c.Slots, 1, 256)
	between("context", c.Context, 64, 1<<20)
	between("queue", c.Queue, 0, 1<<20)
	between("rounds", c.rounds, 1, 100)
	between("each", c.each, 1, 1000)
	between("words", c.words, 1, bench.MaxWords)
	between("tokens", c.tokens, 1, bench.MaxTokens)
	between("clients", c.clients, 1, bench.MaxClients)
	return errors.Join(errs...)
}

// workload is one of the flags' size.
func (c *config) workload(name string, seed uint64, clients int) (bench.Workload, error) {
	return bench.New(name, bench.Options{Seed: seed, Clients: clients, Words: c.words, Tokens: c.tokens})
}
