//go:build unix

package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a file of size bytes, which is made or brought to that size. Its room
// on the disk is taken now: to write into a mapping that the disk has no room for
// ends the process.
func mapFile(path string, size int64) ([]byte, error) {
	if size <= 0 || size != int64(int(size)) {
		return nil, fmt.Errorf("%d bytes cannot be mapped", size)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > size {
		if err := f.Truncate(size); err != nil {
			return nil, err
		}
	}
	if err := reserve(f, min(st.Size(), size), size); err != nil {
		_ = f.Truncate(min(st.Size(), size)) // a part that was taken is given back
		return nil, fmt.Errorf("%d MiB of room for %s: %w", size>>20, path, err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// extend gives a file of old bytes room for size by writing.
func extend(f *os.File, old, size int64) error {
	zeros := make([]byte, min(size-old, 1<<20))
	for at := old; at < size; {
		n, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
