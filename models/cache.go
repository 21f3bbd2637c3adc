package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// CacheEnv names the environment variable that overrides the cache directory.
const CacheEnv = "LLAMERO_CACHE"

// Default names the default model where a model's path is asked for.
const Default = "default"

// CacheDir is where fetched files live: $LLAMERO_CACHE, or "llamero" under the
// user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory (%w): set %s", err, CacheEnv)
	}
	return filepath.Join(dir, "llamero"), nil
}

// MissingError says that a file which serving needs has not been fetched.
type MissingError struct {
	What string // what is missing: "the default model"
	Path string // where it was looked for
	Hint string // the command that brings it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing (%s): %s", e.What, e.Path, e.Hint)
}

func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

// Resolve turns a model's name into the path of a GGUF file that looks whole:
// "" and Default name the default model, in its tuned type if that has been made,
// all else is a path. See CheckGGUF for what is checked.
func Resolve(name string) (string, error) {
	if name != "" && name != Default {
		if err := CheckGGUF(name); err != nil {
			return "", fmt.Errorf("%w (--model names a GGUF file or %q)", err, Default)
		}
		return name, nil
	}
	if t := lock.Model.Tuned; t != nil {
		dir, err := CacheDir()
		if err != nil {
			return "", err
		}
		if path := filepath.Join(dir, "models", lock.Model.tunedFile()); hasSize(path, t.Bytes) {
			return path, CheckGGUF(path)
		}
	}
	return Fetched()
}

// Fetched is the path of the default model as it was fetched.
func Fetched() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "models", lock.Model.file())
	if !hasSize(path, lock.Model.MemberBytes) {
		return "", &MissingError{"the default model", path, "run `llamero models fetch`, or name a GGUF file with --model"}
	}
	return path, CheckGGUF(path)
}

// ResolveLibs turns --lib into the folder of the llama.cpp libraries: a folder
// that is named must hold them, "" is where FetchLibs put the backend's.
func ResolveLibs(dir, backend string) (string, error) {
	if dir != "" {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return "", fmt.Errorf("the library folder %s is not there: --lib names the folder that holds %s", dir, libName("llama"))
		}
		if name := lacking(dir); name != "" {
			return "", fmt.Errorf("%s is not in %s: --lib names the folder that holds llama.cpp %s's shared libraries", name, dir, lock.LlamaCPP)
		}
		return filepath.Abs(dir)
	}
	b, err := lock.find(runtime.GOOS, runtime.GOARCH, backend)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "libs", lock.folder(b))
	if lacking(dir) != "" {
		return "", &MissingError{"the llama.cpp library (" + backend + ")", dir,
			"run `llamero libs fetch --backend " + backend + "`, or name the folder of another llama.cpp " + lock.LlamaCPP + " build with --lib"}
	}
	return dir, nil
}

// libStems are the libraries that the binding opens by name.
var libStems = []string{"llama", "ggml", "ggml-base"}

// libName is a library's file name on this system.
func libName(stem string) string {
	switch runtime.GOOS {
	case "windows":
		return stem + ".dll"
	case "darwin":
		return "lib" + stem + ".dylib"
	}
	return "lib" + stem + ".so"
}

// lacking names the first library that dir does not hold, or is "".
func lacking(dir string) string {
	for _, stem := range libStems {
		if st, err := os.Stat(filepath.Join(dir, libName(stem))); err != nil || !st.Mode().IsRegular() {
			return libName(stem)
		}
	}
	return ""
}

func hasSize(path string, size int64) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == size
}

// exists tells a file that is not there from one that cannot be looked at.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
