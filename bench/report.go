package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Report is everything that one invocation measured. Times are in the unit that a
// field's name ends in.
type Report struct {
	Began    time.Time     `json:"began"`
	Machine  string        `json:"machine"`
	Command  []string      `json:"command"`
	Rounds   int           `json:"rounds"`
	Subjects []Info        `json:"subjects"`
	Runs     []WorkloadRun `json:"runs,omitempty"`
	Sweeps   []Sweep       `json:"sweeps,omitempty"`
}

// WriteHead prints what was measured where.
func (r Report) WriteHead(w io.Writer) {
	fmt.Fprintf(w, "machine: %s\n", r.Machine)
	for _, s := range r.Subjects {
		fmt.Fprintf(w, "%s: %s\n", s.Name, s.Version)
		if len(s.Command) > 0 {
			fmt.Fprintf(w, "  %s\n", strings.Join(s.Command, " "))
		} else if s.URL != "" {
			fmt.Fprintf(w, "  %s, model %s\n", s.URL, s.Model)
		}
	}
}

// Failures is an error if any request failed: a table with errors in it proves
// nothing.
func (r Report) Failures() error {
	failed, all := 0, 0
	count := func(s SubjectRun) {
		f, n := s.Failed()
		failed += f
		all += n
	}
	for _, run := range r.Runs {
		for _, s := range run.Subjects {
			count(s)
		}
	}
	for _, sw := range r.Sweeps {
		for _, c := range sw.Curves {
			for _, p := range c.Points {
				count(SubjectRun{Rounds: p.Rounds})
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, all)
	}
	return nil
}

// File is a file that is there whole or not at all.
type File struct {
	name string
	tmp  *os.File
}

// NewFile makes sure, before hours are spent on what goes into it, that a file can
// be written.
func NewFile(name string) (*File, error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return nil, err
	}
	return &File{name: name, tmp: tmp}, nil
}

// WriteJSON fills the file and puts it in its place.
func (f *File) WriteJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if _, err := f.tmp.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := f.tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := f.tmp.Close(); err != nil {
		return err
	}
	return os.Rename(f.tmp.Name(), f.name)
}

// Discard removes what has not been put in its place.
func (f *File) Discard() {
	f.tmp.Close()
	os.Remove(f.tmp.Name())
}
