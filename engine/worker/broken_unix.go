//go:build unix

package worker

import (
	"errors"
	"syscall"
)

// isBroken reports whether the other end of a socket is gone.
func isBroken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
