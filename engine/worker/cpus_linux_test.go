package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCPUs: every thread of a child keeps to its CPUs, and the gateway to all of its own.
func TestCPUs(t *testing.T) {
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	last, none := -1, -1
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			last = cpu
		} else {
			none = cpu
		}
	}
	s := running(t, fakeModel{}, func(o *Options) { o.CPUs = []int{last} })
	works(t, s)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.bound.pid()))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, name := range threads {
		status, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		lines := strings.Split(string(status), "\n")
		if !slices.Contains(lines, fmt.Sprintf("Cpus_allowed_list:\t%d", last)) {
			t.Errorf("%s: not on CPU %d alone", name, last)
		}
	}
	own, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range own {
		var tid int
		if _, err := fmt.Sscan(filepath.Base(name), &tid); err != nil {
			t.Fatal(err)
		}
		if unix.SchedGetaffinity(tid, &after) == nil && after != before {
			t.Errorf("a thread of the gateway keeps to %d CPUs", after.Count())
		}
	}
	if none < 0 {
		return
	}
	if _, err := start(t, fakeModel{}, func(o *Options) { o.CPUs = []int{none} }); err == nil || !strings.Contains(err.Error(), fmt.Sprint(none)) {
		t.Errorf("on CPU %d, which may not be used: %v", none, err)
	}
}
