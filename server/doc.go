// Package server is the HTTP face: routes, streams, keys, error shapes.
//
// A request's way: decode and validate (package openai), pick the served model,
// render its chat template, tokenise, hand the tokens to the model's Backend, pull
// its mailbox until every choice has ended. One type, generation, turns events into
// text for both ways to answer: a whole JSON document, or server-sent events.
//
// Streams run on the connection's own goroutine: fasthttp calls the body's WriteTo
// once the headers are due, so a stream costs no goroutine, no pipe and no channel.
// Whatever is there in the mailbox goes out as one write with one deadline, and a
// slow reader slows down nobody, since the mailbox coalesces.
//
// fasthttp does not notice when a client goes. One watcher looks at the sockets of
// all requests under way, four times a second, and cancels those whose client has
// closed; see watcher. A client that shuts down its writing side only (a half-close)
// counts as gone.
//
// Nothing of fiber's context outlives its handler: strings are copied, the body is
// let go as soon as it is decoded. Bodies are read behind the check of the key, and
// as they come; see input.go.
//
// openapi.json says what all routes take and answer; tests hold it against them.
package server
