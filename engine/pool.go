package engine

import (
	"runtime"
	"sync"
)

// Pool samples many rows on all processors. It is for one caller at a time.
type Pool struct {
	samplers []*Sampler
}

// NewPool returns a pool with a sampler for each of GOMAXPROCS processors.
func NewPool(vocab int) *Pool {
	p := &Pool{samplers: make([]*Sampler, max(1, runtime.GOMAXPROCS(0)))}
	for i := range p.samplers {
		p.samplers[i] = NewSampler(vocab)
	}
	return p
}

// Each calls do for 0 … n-1, each call with a sampler of its own for the time of
// the call, and returns when all are done. The results do not depend on which
// sampler did what.
func (p *Pool) Each(n int, do func(s *Sampler, i int)) {
	workers := min(len(p.samplers), n)
	if workers <= 1 {
		for i := range n {
			do(p.samplers[0], i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(p.samplers[w], i)
			}
		})
	}
	for i := 0; i < n; i += workers {
		do(p.samplers[0], i)
	}
	wg.Wait()
}
