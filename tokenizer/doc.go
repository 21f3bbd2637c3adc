// Package tokenizer is what the gateway knows about tokens without a model: the
// piece table that says what each token spells, decoding of token streams into
// text that is safe to send, and the care that text needs before it is tokenised.
//
// Tokens to text is a table look-up (Vocab), so answers are decoded here, in Go,
// by the goroutine that writes them. Text to tokens is the engine library's
// business: EncodeWith wraps its native call so that NUL bytes, invalid UTF-8 and
// absurd lengths never reach it.
//
// A prompt that a chat template has rendered mixes what the template wrote, in
// which "<|im_end|>" means the control token, with what people wrote, in which it
// is ten characters. Segment keeps the two apart from the template to the tokens;
// see EncodeSegments and Spellings.
//
// The package is pure: no clock, no files, no network, no log. Its subpackage
// template renders conversations.
package tokenizer
