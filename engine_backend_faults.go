//go:build faults && unix

package main

import (
	"context"
	"slices"
	"syscall"

	"llamero/engine"
	"llamero/engine/llama"
	"llamero/engine/worker"
)

// A program built with this tag is for the tests of faults: its engine dies, as it
// would of an assertion that fails, where a pass would run that holds the vocabulary's
// last token.
func backend() worker.Backend {
	b := worker.Llama()
	open := b.Engine
	b.Engine = func(o llama.Options) (worker.Engine, error) {
		e, err := open(o)
		if err != nil {
			return nil, err
		}
		return mortal{e}, nil
	}
	return b
}

// mortal is an engine that a token kills.
type mortal struct{ worker.Engine }

func (m mortal) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	poison := engine.Token(m.Limits().Vocab - 1)
	deadly := slices.IndexFunc(p.Passes, func(pass engine.Pass) bool {
		return slices.ContainsFunc(pass.Rows, func(r engine.Row) bool { return slices.Contains(r.Tokens, poison) })
	})
	if deadly == 0 {
		die()
	}
	return m.Engine.Step(ctx, p, func(o engine.Output) {
		emit(o)
		if deadly > 0 && o.Pass == deadly-1 {
			die()
		}
	})
}

func die() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}
