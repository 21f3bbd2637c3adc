//go:build !faults || !unix

package main

import "llamero/engine/worker"

// backend is what children are made of.
func backend() worker.Backend { return worker.Llama() }
