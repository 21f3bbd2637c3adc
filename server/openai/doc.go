// Package openai is the wire format of OpenAI's HTTP API: requests decoded and
// validated as a whole, answers and stream chunks written in append style.
//
// It knows JSON and nothing of HTTP, tokens' scheduling or models. A request that
// comes out of this package is within every limit and range; what depends on the
// model (does a token id exist, does the prompt fit) is checked by the caller.
//
// Decoding follows three rules. A field that is null is absent. A field that is
// not known is accepted, as OpenAI's own servers and SDKs move on without us. A
// field that is known but asks for what is not served is refused by name: an
// answer that silently ignores a schema is worse than an error.
package openai
