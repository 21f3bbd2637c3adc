//go:build unix

package worker

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lastLines is how long the output of a child that has ended is waited for.
const lastLines = time.Second

// startProcess starts a child with a socket and files as its descriptors from 3 on.
func startProcess(c command) (*process, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	defer theirs.Close()
	lines, output, err := os.Pipe()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	defer output.Close()
	cmd := exec.Command(c.path)
	cmd.Args = c.argv
	cmd.Env = childEnv(c.env)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = append([]*os.File{theirs}, c.files...)
	cmd.SysProcAttr = processAttr()
	p := &process{cmd: cmd, conn: conn, logs: newRelay(c.log), exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The signal of a parent's death is that of the thread that forked, and a child
		// keeps to that thread's processors.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := keepTo(c.cpus, cmd.Start)
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in ProcessState
			select {
			case <-p.logs.done:
			case <-time.After(lastLines): // something else holds its output open
			}
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		conn.Close()
		lines.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	go func() {
		defer lines.Close()
		p.logs.run(lines)
	}()
	return p, nil
}

// socketPair returns the gateway's end and the child's.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "gateway"), os.NewFile(uintptr(fds[1]), "child")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// inherit takes a child's end of the socket and keeps the gateway's signals from
// ending the child: a service manager may send them to both, and the gateway drains.
func inherit() (net.Conn, error) {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	f := os.NewFile(socketFD, "gateway")
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("this command is run by the gateway, not by hand: %w", err)
	}
	return conn, f.Close()
}
