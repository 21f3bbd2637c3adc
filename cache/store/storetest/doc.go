// Package storetest holds the tests that every cache.Remote passes.
package storetest
