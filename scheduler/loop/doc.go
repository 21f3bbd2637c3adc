// Package loop gives a scheduler its one goroutine, a clock and an engine.
//
// Requests come in over a bounded queue whose places are counted with an atomic,
// so that a full queue is answered at once, however long the running step takes.
// What happens to a request goes into its stream's mailbox: a mutex and a slice,
// which the loop never waits for.
//
// A Group is several engines behind one model, each with its loop. What the loops have
// in common is one account of host pages under one lock, which is held while a plan is
// made or its outcome noted, and never while it runs: what a running plan reads and
// writes is kept for it by its cache.View. So a loop's plans depend on the others only
// through the pages that are known when they are made, and a loop that waits for pages
// that another one is saving is woken when they are there or lost.
package loop
