//go:build unix && !linux

package worker

import (
	"errors"
	"os"
	"syscall"
)

func self() (string, error) { return os.Executable() }

// processAttr: a child whose parent has died learns it from its socket.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func keepTo(cpus []int, start func() error) error {
	if len(cpus) > 0 {
		return errors.New("a process cannot be kept to CPUs on this system")
	}
	return start()
}
