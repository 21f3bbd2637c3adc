//go:build !unix

package worker

import (
	"errors"
	"net"
	"os"
)

var errUnsupported = errors.New("engines in a process of their own need a Unix system; --engine inprocess does without")

// NewSlab returns memory for host pages.
func NewSlab(int64) (Memory, error) { return Memory{}, errUnsupported }

func newMemory(string, int64, bool) (Memory, error) { return Memory{}, errUnsupported }

func mapRegion(_, _ *os.File, _, _ int64) ([]byte, error) { return nil, errUnsupported }

func startProcess(command) (*process, error) { return nil, errUnsupported }

func inherit() (net.Conn, error) { return nil, errUnsupported }

func self() (string, error) { return os.Executable() }

func isBroken(error) bool { return false }

func populate([]byte, int64, int64) {}
