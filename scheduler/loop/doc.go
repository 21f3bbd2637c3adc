// Package loop gives a scheduler its one goroutine, a clock and an engine.
//
// Requests come in over a bounded queue whose places are counted with an atomic,
// so that a full queue is answered at once, however long the running step takes.
// What happens to a request goes into its stream's mailbox: a mutex and a slice,
// which the loop never waits for.
package loop
