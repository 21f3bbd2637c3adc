//go:build unix

package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NewSlab returns zeroed memory that is taken from the system as it is touched, and
// that the garbage collector knows nothing of; nil for a size of 0. It lives as long
// as the process.
func NewSlab(size int64) ([]byte, error) {
	if size <= 0 {
		return nil, nil
	}
	if size != int64(int(size)) {
		return nil, fmt.Errorf("%d bytes of memory: more than this machine can address", size)
	}
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%d MiB of memory for pages: %w", size>>20, err)
	}
	hugePages(b)
	return b, nil
}
