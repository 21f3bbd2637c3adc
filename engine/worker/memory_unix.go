//go:build unix

package worker

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readyBytes is how much of shared memory is taken from the system while the model
// loads: the first prompt that is read from Redis or saved would wait for that.
const readyBytes = 64 << 20

// NewSlab returns zeroed memory for host pages, of which all but the beginning is taken
// from the system as it is touched and which children can only read. It lives as long as the process.
func NewSlab(size int64) (Memory, error) { return newMemory("llamero pages", size, true) }

func newMemory(name string, size int64, readOnly bool) (Memory, error) {
	if size <= 0 || size != int64(int(size)) {
		return Memory{}, fmt.Errorf("%d bytes of shared memory", size)
	}
	f, err := createShared(name)
	if err != nil {
		return Memory{}, fmt.Errorf("shared memory: %w", err)
	}
	m, err := mapShared(f, size, readOnly)
	if err != nil {
		f.Close()
		return Memory{}, fmt.Errorf("%d MiB of shared memory: %w", size>>20, err)
	}
	go populate(m.Bytes, 0, min(size, readyBytes))
	return m, nil
}

func mapShared(f *os.File, size int64, readOnly bool) (Memory, error) {
	if err := f.Truncate(size); err != nil {
		return Memory{}, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return Memory{}, err
	}
	if err := sealShared(f, readOnly); err != nil {
		_ = unix.Munmap(b)
		return Memory{}, err
	}
	adviseShared(b)
	return Memory{File: f, Bytes: b}, nil
}

// mapRegion maps the slab and the ring behind it, see layout. The descriptors are a
// child's, which keeps the mapping for as long as it lives.
func mapRegion(slab, ring *os.File, slabBytes, ringBytes int64) ([]byte, error) {
	for _, f := range []struct {
		file *os.File
		size int64
	}{{slab, slabBytes}, {ring, ringBytes}} {
		// Beyond a file's end its mapping would be fatal to touch.
		if st, err := f.file.Stat(); err != nil || st.Size() < f.size {
			return nil, fmt.Errorf("worker: %s has not the %d bytes it should have (%v)", f.file.Name(), f.size, err)
		}
	}
	start, total := reserved(slabBytes), reserved(slabBytes)+ringBytes
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(total), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("worker: %d MiB of addresses: %w", total>>20, err)
	}
	if _, err := unix.MmapPtr(int(slab.Fd()), 0, base, uintptr(slabBytes), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return nil, fmt.Errorf("worker: map the pages: %w", err)
	}
	if _, err := unix.MmapPtr(int(ring.Fd()), 0, unsafe.Add(base, start), uintptr(ringBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return nil, fmt.Errorf("worker: map the ring: %w", err)
	}
	return unsafe.Slice((*byte)(base), total), nil
}
