//go:build unix && !linux

package server

import "syscall"

// peerGone reports whether the other side has closed. Behind bytes that nobody has
// read yet (a pipelined request) a close is not seen: then the next failed write
// tells.
func peerGone(conn syscall.RawConn) bool {
	gone := false
	err := conn.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			gone = n == 0
		case syscall.EAGAIN, syscall.EINTR:
		default:
			gone = true
		}
	})
	return gone || err != nil
}
