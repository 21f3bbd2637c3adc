package worker

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is this program, even if its file has been replaced or removed.
func self() (string, error) { return "/proc/self/exe", nil }

func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepTo calls start with the thread, which is locked, kept to some processors; without
// any it just calls it.
func keepTo(cpus []int, start func() error) error {
	if len(cpus) == 0 {
		return start()
	}
	var before, set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("the CPUs of this process: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("CPUs %v: %w", cpus, err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }() // it was so a moment ago
	return start()
}
