//go:build unix && !linux

package store

import "os"

// reserve gives a file of old bytes room on the disk for size bytes.
func reserve(f *os.File, old, size int64) error { return extend(f, old, size) }
