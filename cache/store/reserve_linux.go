package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve gives a file of old bytes room on the disk for size bytes, holes included.
func reserve(f *os.File, old, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return extend(f, old, size) // not every file system can
		}
		return err
	}
}
