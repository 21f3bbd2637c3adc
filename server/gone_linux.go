package server

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// peerGone reports whether the other side has closed. poll tells of a FIN even
// behind bytes that nobody has read yet (a pipelined request), which peeking at the
// data would not.
func peerGone(conn syscall.RawConn) bool {
	gone := false
	err := conn.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds[:], 0)
		gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil // Control fails only on a closed connection
}
