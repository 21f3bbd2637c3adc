package worker

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
)

// Subcommand is the hidden command by which the gateway's program is a child; its
// argument says which.
const Subcommand = "engine-worker"

// Process is how children are started. Zero values are defaults.
type Process struct {
	Argv []string     // nil: this program with Subcommand
	Env  []string     // beside the gateway's own, secrets left out
	CPUs []int        // that they keep to; nil: any
	Log  *slog.Logger // where their lines go; nil: slog.Default
}

// command is a child to be started.
type command struct {
	path      string
	argv, env []string
	cpus      []int
	files     []*os.File
	log       *slog.Logger
}

// command says how to start a child; the role is named for those who look at a list
// of processes.
func (p Process) command(r role) (command, error) {
	c := command{argv: p.Argv, env: p.Env, cpus: p.CPUs, log: p.logger()}
	if len(c.argv) > 0 {
		c.path = c.argv[0]
		return c, nil
	}
	var err error
	if c.path, err = self(); err != nil {
		return c, fmt.Errorf("worker: %w", err)
	}
	c.argv = []string{os.Args[0], Subcommand, string(r)}
	return c, nil
}

func (p Process) logger() *slog.Logger {
	if p.Log == nil {
		return slog.Default()
	}
	return p.Log
}

// private are the beginnings of variables that are the gateway's alone: settings,
// with keys among them, and where telemetry goes.
var private = []string{"LLAMERO_", "OTEL_", "REDIS_"}

// childEnv is the gateway's environment as far as a child needs it: devices are
// chosen by it.
func childEnv(more []string) []string {
	var env []string
next:
	for _, v := range os.Environ() {
		for _, p := range private {
			if strings.HasPrefix(v, p) {
				continue next
			}
		}
		env = append(env, v)
	}
	// On a failed assertion ggml would start a debugger on itself, and wait for it.
	return append(append(env, "GGML_NO_BACKTRACE=1"), more...)
}

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	conn   net.Conn
	logs   *relay
	exited chan struct{} // closed when it has ended and its last line has been read
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// how says how the process ended; it has.
func (p *process) how() string {
	how := p.cmd.ProcessState.String()
	if words := p.logs.lastWords(); words != "" {
		how += "; it said: " + words
	}
	return how
}
