package loop

import (
	"sync"

	"llamero/cache"
)

// account is the account of host pages with its lock. Whoever has it makes or settles a
// whole plan, so that what a plan promises has not gone before it is noted; it is never
// held while a step runs or bytes are copied.
type account struct {
	mu    sync.Mutex
	host  *cache.Host // nil: there are none
	loops []*Loop
}

// join adds a loop; what it may do is its view's.
func (a *account) join(l *Loop) *cache.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loops = append(a.loops, l)
	if a.host == nil {
		return nil
	}
	return a.host.View()
}

// tell wakes the other loops: pages that their requests may wait for are there now, or
// will not come.
func (a *account) tell(from *Loop) {
	a.mu.Lock()
	loops := a.loops
	a.mu.Unlock()
	for _, l := range loops {
		if l != from {
			l.poke()
		}
	}
}

// known counts the pages of a chain that every loop can begin with.
func (a *account) known(chain []cache.Address, tokens []cache.Token) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.host.Match(chain, tokens)
}

// stats counts pages.
func (a *account) stats() cache.Stats {
	if a.host == nil {
		return cache.Stats{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.host.Stats()
}

// unpin returns what lets go of a page, once, from any goroutine.
func (a *account) unpin(page int32) func() {
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.host.Unpin(page)
	}
}
