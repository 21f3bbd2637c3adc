package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"llamero/engine/llama"
	"llamero/engine/worker"
)

// newEngineWorker is the command by which the gateway starts its children.
func newEngineWorker() *cobra.Command {
	return &cobra.Command{
		Use:    worker.Subcommand + " ROLE",
		Short:  "Run a model for a gateway, which starts this command",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE:   func(*cobra.Command, []string) error { return worker.Main(backend()) },
	}
}

// openTokenizer loads a vocabulary, in a process of its own or in this one.
func openTokenizer(apart bool, lib, path string, log *slog.Logger) (worker.Tokenizer, error) {
	if apart {
		t, err := worker.StartEncoder(worker.Process{Log: log}, lib, path)
		if err != nil {
			return nil, err // not t: a nil *worker.Encoder is no nil Tokenizer
		}
		return t, nil
	}
	t, err := llama.OpenTokenizer(lib, path)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// openEngine loads a model, in a process of its own or in this one.
func openEngine(apart bool, slab worker.Memory, log *slog.Logger, o llama.Options) (worker.Engine, error) {
	if apart {
		s, err := worker.Start(worker.Options{Process: worker.Process{Log: log}, Engine: o, Slab: slab})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	o.Slab = slab.Bytes
	e, err := llama.Open(o)
	if err != nil {
		return nil, err
	}
	return e, nil
}
