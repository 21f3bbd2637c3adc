// Package inspect says what a GGUF file holds: its metadata, what its weights are
// stored as, its vocabulary and chat template, and what its KV cache costs and how
// much of it fits.
//
// The file is read by github.com/gpustack/gguf-parser-go, which panics where a value
// is not of the type that it expects, follows nesting without end, and opens further
// files by what a name looks like. So it is given a private copy of the header, and
// only once models.ReadHeader has walked it and found that every length in it stays
// inside it: what a crafted file can cost is bounded by the size of a header.
package inspect
