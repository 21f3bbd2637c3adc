package worker

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func createShared(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// sealShared fixes the size, since a child that cut the memory off would end whoever
// reads it, and, where the kernel can, forbids further mappings to write.
func sealShared(f *os.File, readOnly bool) error {
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if readOnly {
		_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals|unix.F_SEAL_FUTURE_WRITE)
		if !errors.Is(err, unix.EINVAL) { // Linux before 5.1
			return err
		}
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	return err
}

// populate takes memory from the system that is about to be written, at once: page by
// page, as it is touched, takes half as long again. b begins on a page.
func populate(b []byte, from, to int64) {
	size := int64(os.Getpagesize())
	_ = unix.Madvise(b[from/size*size:min((to+size-1)/size*size, int64(len(b)))], unix.MADV_POPULATE_WRITE) // Linux before 5.14 takes it as it is touched
}

func adviseShared(b []byte) {
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // without large pages it is slower, and works
}
