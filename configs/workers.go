package configs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// divide gives each of several workers its part of the machine, where nobody has said
// how much it is to be.
func (e *Engine) divide(said func(path string) bool) {
	if e.Workers <= 1 {
		return
	}
	if !said("engine.threads") {
		e.Threads = max(1, cores()/e.Workers)
	}
	if !said("engine.slots") {
		e.Slots = slots(e.Threads)
	}
	if !said("engine.kv_memory") {
		e.KVMemory = kvMemory(Memory(), e.Workers)
	}
}

// DeviceSets are the GPUs of each worker; nil leaves all to each.
func (e *Engine) DeviceSets() []string { return split(e.Devices) }

// CPUSets are the CPUs that each worker keeps to; nil is any.
func (e *Engine) CPUSets() ([][]int, error) {
	var sets [][]int
	for _, text := range split(e.CPUs) {
		set, err := parseCPUs(text)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// split separates what is of each worker; nil is nothing.
func split(text string) []string {
	if text == "" {
		return nil
	}
	parts := strings.Split(text, ";")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// maxCPU is the last one that can be named: Linux's affinity masks have room for 1,024.
const maxCPU = 1023

var errCPUs = errors.New("not a list of CPUs such as 0-7 or 0,2,4-6")

// parseCPUs reads a list of CPUs and ranges, as taskset does.
func parseCPUs(text string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		if err != nil || err2 != nil || from > to {
			return nil, errCPUs
		}
		if to > maxCPU {
			return nil, fmt.Errorf("CPU %d; the last is %d", to, maxCPU)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}

// devices are numbers, or the names that the drivers give: GPU-8932f937-d72c-4106.
var devices = regexp.MustCompile(`^[A-Za-z0-9_./:-]+(,[A-Za-z0-9_./:-]+)*$`)

func (c *Config) checkWorkers(add func(path, format string, args ...any)) {
	e := &c.Engine
	if e.Process != "worker" {
		for _, s := range []struct {
			path string
			set  bool
		}{{"engine.workers", e.Workers > 1}, {"engine.devices", e.Devices != ""}, {"engine.cpus", e.CPUs != ""}} {
			if s.set {
				add(s.path, "it is for engines in processes of their own: engine.process is %q", clip(e.Process))
			}
		}
		return
	}
	for _, list := range []struct {
		path, text string
		check      func(string) error
	}{
		{"engine.devices", e.Devices, func(s string) error {
			if !devices.MatchString(s) {
				return errors.New("not a list of devices such as 0 or 0,1")
			}
			return nil
		}},
		{"engine.cpus", e.CPUs, func(s string) error { _, err := parseCPUs(s); return err }},
	} {
		sets := split(list.text)
		if sets != nil && len(sets) != e.Workers {
			add(list.path, "%d sets for %d workers", len(sets), e.Workers)
			continue
		}
		for i, s := range sets {
			if err := list.check(s); err != nil {
				add(list.path, "set %d, %q: %v", i+1, clip(s), err)
			}
		}
	}
}
