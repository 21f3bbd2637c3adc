package store

import "golang.org/x/sys/unix"

// hugePages asks for large pages: a save of 840 tokens into memory that had not been
// touched took 39 ms, nearly all of it for the kernel to bring 4 KiB at a time.
func hugePages(b []byte) {
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // without them it is slower, and works
}
