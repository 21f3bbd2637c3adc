// Package llama runs models on llama.cpp's shared libraries. It is the only
// package that knows the binding (yzma, which calls libllama without cgo).
//
// What llama.cpp answers with a failed assertion, which ends the process, is
// checked before the call: engine.Ledger holds what each sequence contains, and
// every pass is shaped so that llama.cpp computes it as one ubatch. So a pass
// either ran or left nothing behind, and slots are put back by trimming.
//
// A draft model has sequences of its own that follow the model's (draft.go). It guesses
// what a pass is to verify; whatever it says, and if it fails, the answers are the same.
//
// One library can be loaded per process. Open loads a model with weights and
// returns an engine; OpenTokenizer loads a vocabulary alone.
package llama
