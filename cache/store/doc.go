// Package store is where pages are kept: the memory of the host tier, and the policy
// by which its pages go.
package store
