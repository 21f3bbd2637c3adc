package store

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"llamero/cache"
)

// Memory is a tier in this process's own memory, for tests: the contract without a
// server. Views of one store share its pages, as gateways share a Redis.
type Memory struct {
	shared *memoryPages
	closed bool // guarded by shared.mu
}

type memoryPages struct {
	mu    sync.Mutex
	pages *simplelru.LRU[cache.Address, memoryPage]
}

type memoryPage struct {
	tokens []cache.Token
	kv     []byte
}

var _ cache.Remote = (*Memory)(nil)

var errMemoryClosed = errors.New("memory: the tier is closed")

// NewMemory returns a tier for so many pages.
func NewMemory(pages int) (*Memory, error) {
	lru, err := simplelru.NewLRU[cache.Address, memoryPage](pages, nil)
	if err != nil {
		return nil, err
	}
	return &Memory{shared: &memoryPages{pages: lru}}, nil
}

// View returns another tier over the same pages.
func (m *Memory) View() *Memory { return &Memory{shared: m.shared} }

// Get implements cache.Remote.
func (m *Memory) Get(ctx context.Context, want []cache.Wanted) ([][]byte, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nothing, err
	}
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	if m.closed {
		return nil, nothing, errMemoryClosed
	}
	var out [][]byte
	for _, w := range want {
		p, ok := m.shared.pages.Get(w.Address)
		if !ok || !slices.Equal(p.tokens, w.Tokens) {
			break
		}
		out = append(out, slices.Clone(p.kv))
	}
	return out, nothing, nil
}

// nothing is a release of what nobody wants back.
func nothing() {}

// Put implements cache.Remote.
func (m *Memory) Put(a cache.Address, tokens []cache.Token, kv []byte, release func()) {
	m.shared.mu.Lock()
	if !m.closed {
		m.shared.pages.Add(a, memoryPage{slices.Clone(tokens), slices.Clone(kv)})
	}
	m.shared.mu.Unlock()
	if release != nil {
		release()
	}
}

// Len is how many pages there are.
func (m *Memory) Len() int {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	return m.shared.pages.Len()
}

// Close implements cache.Remote. Other views stay open.
func (m *Memory) Close() error {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	m.closed = true
	return nil
}
