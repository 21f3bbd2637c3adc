package worker

import "syscall"

// self is this program, even if its file has been replaced or removed.
func self() (string, error) { return "/proc/self/exe", nil }

func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
