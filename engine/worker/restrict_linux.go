package worker

import (
	"fmt"
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
)

// denied are the calls that a child has no use for: it opens no socket, starts no
// program, looks into no other process and asks for no privilege. io_uring is among
// them because it can do what they do.
var denied = []string{
	"socket", "connect", "bind", "listen", "accept", "accept4",
	"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev",
	"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "perf_event_open", "bpf",
	"mount", "umount2", "pivot_root", "chroot", "setns", "unshare",
	"init_module", "finit_module", "delete_module", "kexec_load", "reboot", "swapon", "swapoff",
	"keyctl", "add_key", "request_key",
}

// restrict takes from all threads of the process, now and later, what it does not
// need, and the means to get it back. It comes before anything is read that others
// have made.
func restrict() error {
	runtime.LockOSThread() // one thread forbids itself new privileges, then asks for all
	defer runtime.UnlockOSThread()
	err := seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno, Names: denied}},
		},
	})
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
