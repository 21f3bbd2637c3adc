package store

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"llamero/cache"
)

// LRU is the policy by which the page that was not used for longest goes first.
type LRU struct {
	lru *simplelru.LRU[cache.Address, struct{}]
}

var _ cache.Policy = LRU{}

// NewLRU returns a policy for so many pages.
func NewLRU(pages int) (LRU, error) {
	lru, err := simplelru.NewLRU[cache.Address, struct{}](pages, nil)
	return LRU{lru}, err
}

// Add implements cache.Policy.
func (l LRU) Add(a cache.Address) { l.lru.Add(a, struct{}{}) }

// Touch implements cache.Policy.
func (l LRU) Touch(a cache.Address) { l.lru.Get(a) }

// Remove implements cache.Policy.
func (l LRU) Remove(a cache.Address) { l.lru.Remove(a) }

// Oldest implements cache.Policy.
func (l LRU) Oldest() (cache.Address, bool) {
	a, _, ok := l.lru.GetOldest()
	return a, ok
}
