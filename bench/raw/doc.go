// Package raw measures the engine without scheduler and HTTP: the limit that a
// gateway on the same engine can come near to.
//
// It is given what a server is given, renders and tokenises it in the same way, and
// then drives the engine with plans that know the future: every prompt is there at
// the start, is computed once in the widest chunks, a beginning that all prompts
// share only once and then forked, and all answers are decoded together in dense
// slots until each has its tokens. Nobody waits for a newcomer, nothing is moved.
//
// A run takes place in a child process (Child, Main), so that its memory and
// threads are gone before a server is measured again.
package raw
