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

func adviseShared(b []byte) {
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // without large pages it is slower, and works
}
