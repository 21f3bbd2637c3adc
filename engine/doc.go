// Package engine is the contract between a scheduler and a model, and what every
// engine needs beside the model: bookkeeping and sampling.
//
// An Engine runs Plans. A Plan is one step: edits to slots, then passes (calls of
// the model), then saves of KV pages. A slot is a sequence that is running now. A
// row is a slot's part of a pass; it may carry a guess of the tokens to come, of which
// what equals the slot's own draws is kept. Plans and Outputs are plain values, so that an
// engine may live in another process.
//
// The package is pure: it knows no clock, no file, no native library. What runs a
// real model is in engine/llama, and engine/worker does so in a process of its own;
// engine/enginetest has a fake model that tells on its caller, and the conformance
// suite that every engine passes.
package engine
