package main

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"llamero/configs"
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

// openEngines loads a model as often as there are workers, all at once, in processes of
// their own or in this one. Their host pages are those of one slab.
func openEngines(c configs.Engine, slab worker.Memory, log *slog.Logger, o llama.Options) ([]worker.Engine, error) {
	if c.Process != "worker" {
		o.Slab = slab.Bytes
		e, err := llama.Open(o)
		if err != nil {
			return nil, err
		}
		return []worker.Engine{e}, nil
	}
	cpus, err := c.CPUSets()
	if err != nil {
		return nil, err
	}
	devices := c.DeviceSets()
	engines, errs := make([]worker.Engine, c.Workers), make([]error, c.Workers)
	var wg sync.WaitGroup
	for i := range engines {
		own := worker.Options{Process: worker.Process{Log: log}, Engine: o, Slab: slab}
		if c.Workers > 1 {
			own.Log = log.With("engine", i)
		}
		if devices != nil {
			own.Env = []string{"CUDA_VISIBLE_DEVICES=" + devices[i], "GGML_VK_VISIBLE_DEVICES=" + devices[i]}
		}
		if cpus != nil {
			own.CPUs = cpus[i]
		}
		wg.Go(func() {
			e, err := worker.Start(own)
			if err != nil {
				errs[i] = err
				return // engines[i] stays: a nil *worker.Supervisor is no nil Engine
			}
			engines[i] = e
		})
	}
	wg.Wait()
	if err := alike(engines, errs); err != nil {
		closeEngines(engines)
		return nil, err
	}
	return engines, nil
}

// alike says which engine did not load, or is not like the others: on another device a
// model may be laid out in another way, and pages are common to all.
func alike(engines []worker.Engine, errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err // of one model: the others fail for the same reason, if they do
		}
	}
	first := engines[0]
	for i, e := range engines {
		if e.Limits() != first.Limits() || e.Form() != first.Form() {
			return fmt.Errorf("engine %d is not like the first one: %+v %q, not %+v %q (--devices)", i, e.Limits(), e.Form(), first.Limits(), first.Form())
		}
	}
	return nil
}

// closeEngines closes those that there are.
func closeEngines(engines []worker.Engine) {
	for _, e := range engines {
		if e != nil {
			_ = e.Close()
		}
	}
}
