//go:build !linux

package worker

import "errors"

func restrict() error { return errors.New("there is no seccomp on this system") }
