// Package worker runs engines and tokenizers in child processes, so that what
// llama.cpp does to its process (a failed assertion ends it, a crafted file may do
// worse) is not done to the gateway's.
//
// The child is the gateway's own program with a hidden subcommand that calls Main.
// There are two kinds of child, an engine and a tokenizer, each in a process of its
// own: a text that kills the tokenizer costs no stream its KV, and text is tokenised
// while an engine loads. A child belongs to its gateway: it has a process group of
// its own (Ctrl-C is the gateway's business), ends with its parent, and gives up
// what it does not need before it reads a model file (see restrict).
//
// Gateway and child speak over a socket pair, in frames: a length, a kind, a
// payload. Plans and outputs have a compact codec (plan.go, output.go); the
// handshake, of which there is one a process, is JSON. KV never goes over the
// socket. Host pages are in shared memory that the child maps read-only; what it
// saves it writes to a ring, and the gateway copies a page from there to its place
// once the child has said that it is whole, with a checksum that the copy must have.
// So a child that dies while it writes has spoilt nothing.
//
// The child sends a pulse twice a second. One that is silent for some seconds is
// stopped or starved; one whose step takes far longer than steps like it have taken
// hangs. Either is killed. Supervisor is an engine over a sequence of children, and
// Encoder a tokenizer over one: each starts the next child when one has ended.
//
// Several Supervisors may have one slab, each with a ring of its own: a page is written
// by the gateway alone, and who may read and write which page is for the account of
// pages to say (cache.View).
package worker
