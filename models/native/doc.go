// Package native works on model files with llama.cpp, each piece of work in a child
// process: quantising a file, comparing what two models think of a text, measuring a
// model's speed.
//
// Model files come from anywhere and llama.cpp ends its process where an assertion
// fails, so here that is an error that names the file. Work can be interrupted, and
// leaves nothing behind: a file that is made appears whole under its name, or not at
// all.
//
// Worker is the parent's side, Main the child's.
package native
