//go:build unix && !linux

package worker

import (
	"os"
	"syscall"
)

func self() (string, error) { return os.Executable() }

// processAttr: a child whose parent has died learns it from its socket.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
