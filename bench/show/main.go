// Command show prints the tables behind claims that are not about a workload as a
// whole: what a step costs after early ends, how fast vanished clients make room, how
// fast a surplus is refused, what a restart costs. Workloads as a whole are `llamero
// bench`'s.
//
//	go run ./bench/show show4 --llamero bin/llamero --peer llama-server --model model.gguf --lib DIR
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"llamero/bench"
)

// limit ends a run that hangs; the longest takes some ten minutes.
const limit = time.Hour

type command struct {
	name, about string
	run         func(ctx context.Context, c *config) error
}

var commands = []command{
	{"show4", "step time after early ends, and of stream counts between the cheap widths", show4},
	{"show5", "clients that vanish in every state: time until all slots are free", show5},
	{"show6", "more requests at once than the queue holds: how fast the surplus is refused", show6},
	{"show7", "a prompt's first token after a restart and from a second gateway, through Redis and from a folder", show7},
	{"show8", "what a draft model gives one stream, by the kind of prompt", show8},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "show:", err)
		}
		stop()
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			cfg, err := parse(c, args[1:])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took longer than %s", c.name, limit))
			defer cancel()
			fmt.Printf("%s: %s\nmachine: %s\n", c.name, c.about, bench.Machine())
			if err := c.run(ctx, cfg); err != nil {
				if cause := context.Cause(ctx); cause != nil {
					return fmt.Errorf("%w (%w)", err, cause)
				}
				return err
			}
			return nil
		}
	}
	fmt.Fprintln(os.Stderr, "usage: show COMMAND [flags]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %s  %s\n", c.name, c.about)
	}
	return flag.ErrHelp
}
