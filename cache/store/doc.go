// Package store is where pages are kept: the memory of the host tier, the policy by
// which its pages go, and the tiers behind it, which are cache.Remote.
//
// Redis keeps pages in a Redis server, a Cluster, or one that Sentinels watch, so
// that a restarted gateway and other gateways need not compute what one of them has.
// One key holds one page whole, with its tokens and its address, so there is nothing
// to be seen in part and nothing to go without the rest. What Redis holds is not
// trusted: a value is authenticated before anything in it is looked at, then
// compared with what was asked for, and what fails counts as not there. Nor is its
// health: every reply is bounded before it is allocated, every wait has an end, and
// when several requests in a row got nothing a breaker opens, so that the next ones
// do not wait at all until a probe finds Redis well again.
//
// Memory is the same contract without a server, for tests. Package storetest has the
// tests that all of them pass.
package store
