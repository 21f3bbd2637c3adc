// Package scheduler decides what an engine computes next: continuous batching as
// a state machine. It is pure and single-threaded: no clock, no goroutine, no
// I/O; the same inputs give the same plans, byte for byte. Package loop owns its
// one goroutine.
//
// There is no prefill phase and no decode phase. A sequence (one answer of a
// request) has tokens and a count of computed ones, and every plan closes the gap
// a little: a gap of one is a row of the decode pass, a larger one gives prompt
// chunks. Chunked prefill, forks, preemption and recovery after an engine's death
// are the same arithmetic: what is lost is set to zero computed tokens and waits
// with the tokens it has, and since random numbers are keyed by position the
// answer goes on as it would have.
//
// A step is planned in this order, each part in a file of its own:
//
//	queue.go   who comes next: priority, then fair share, then arrival
//	admit.go   slots for those who fit; siblings fork from a computed prompt
//	slots.go   split layout: moves and idle rows instead of holes
//	passes.go  the decode pass, then as many prompt chunks as the latency target leaves time for
//	guess.go   what may follow, where text repeats itself, and how likely that is
//	draft.go   how likely the engine's draft model is right
//	depth.go   whose guess a decode row takes to have verified, and how long a one
//	costs.go   what passes cost on this machine, calibrated and then learnt
//
// When the engine fails, suspects.go finds the request that makes it fail, if one does.
//
// A model may run on several engines, each with a Scheduler; router.go decides which one
// a request goes to. Their slots are their own, and so are their queues, shares and
// learnt costs; host pages are common to all, see cache.View.
//
// TestSimulation runs it all through whatever can go wrong, as seeds decide, and cuts a
// seed that fails down to what it takes; make simulate runs more of them.
package scheduler
