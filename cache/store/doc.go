// Package store is where pages are kept: the policy of the host tier.
package store
