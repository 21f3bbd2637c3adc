package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"llamero/engine/llama"
	"llamero/models"
)

type quantizeTask struct {
	Lib     string
	In, Out string
	Type    llama.FileType
	Threads int
}

func (t *quantizeTask) do(progress func(done, total int)) error {
	return llama.Quantize(t.Lib, t.In, t.Out, t.Type, t.Threads, progress)
}

// ErrExists is an output that is there already, where it may not be replaced.
var ErrExists = errors.New("is there already")

// Quantize makes the file out of the model in. out is written beside its place and
// renamed, so that it is whole when it is there; replace says whether one that is
// there makes way. out can never be in. progress may be nil.
func (w Worker) Quantize(ctx context.Context, in, out string, t llama.FileType, replace bool, progress func(done, total int)) error {
	if err := models.CheckGGUF(in); err != nil {
		return err
	}
	if err := checkOutput(in, out, replace); err != nil {
		return err
	}
	// llama.cpp opens the file by its name, so the name is taken first.
	tmp, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+"-*")
	if err != nil {
		return fmt.Errorf("the output: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	job := task{Quantize: &quantizeTask{Lib: w.Lib, In: in, Out: tmp.Name(), Type: t, Threads: w.Threads}}
	if _, err := w.do(ctx, in, job, progress); err != nil {
		return explain(err, in, out)
	}
	if err := models.CheckGGUF(tmp.Name()); err != nil {
		return fmt.Errorf("what llama.cpp made of %s is not whole: %w", in, err)
	}
	// Through to the disk: the name must not outlive the bytes.
	if err := errors.Join(tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("the output: %w", err)
	}
	if !replace {
		// Unlike a rename, a link does not replace what has come meanwhile.
		err := os.Link(tmp.Name(), out)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s %w: --force replaces it", out, ErrExists)
		}
		if err == nil {
			return nil
		}
	}
	if err := os.Rename(tmp.Name(), out); err != nil {
		return fmt.Errorf("the output: %w", err)
	}
	return nil
}

func checkOutput(in, out string, replace bool) error {
	dir := filepath.Dir(out)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("the output's folder %s is not there", dir)
	}
	st, err := os.Stat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the output: %w", err)
	case !st.Mode().IsRegular():
		return fmt.Errorf("the output %s is not a file", out)
	}
	if source, err := os.Stat(in); err == nil && os.SameFile(source, st) {
		return fmt.Errorf("the output %s is the input: name another file", out)
	}
	if !replace {
		return fmt.Errorf("%s %w: --force replaces it", out, ErrExists)
	}
	return nil
}

// explain says in words what llama.cpp says by way of C++.
func explain(err error, in, out string) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "iostream error"):
		return fmt.Errorf("%s could not be written: is the disk full? (llama.cpp: %s)", out, text)
	case strings.Contains(text, "requires an imatrix"):
		return fmt.Errorf("%s needs an importance matrix for this type, which is not supported: choose another type", in)
	}
	return fmt.Errorf("%s: %w", in, err)
}
