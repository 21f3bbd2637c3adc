package models

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// What an archive may hold. The digest has been checked by now; these keep a wrong
// lock entry from filling a disk.
const (
	unpackMaxFiles = 1 << 10
	unpackMaxBytes = 2 << 30
)

// library matches the shared libraries that serving needs: llama and ggml's, with
// a version or backend in their names or not. The package's Node addon and the
// helper library that only it uses stay behind.
var library = regexp.MustCompile(`^(lib)?(llama|ggml)(-[a-z0-9_.\-]+)?(\.[a-z0-9_.\-]+)?\.(so|dylib|dll)$`)

// unpackLibs extracts the libraries of an npm tarball flat into dir, with their
// licence, and makes the plain names (libllama.so) that the binding opens.
func unpackLibs(tarball, dir, version string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer file.Close()
	zr, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("the package is not gzip: %w", err)
	}
	tr := tar.NewReader(zr)
	left := int64(unpackMaxBytes)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the package: %w", err)
		}
		if n >= unpackMaxFiles {
			return fmt.Errorf("the package holds more than %d files", unpackMaxFiles)
		}
		if h.Typeflag != tar.TypeReg {
			continue // links and devices are nothing that we take
		}
		// Only the last element of a path is used: nothing can leave dir.
		name := path.Base(h.Name)
		switch {
		case library.MatchString(name) && !strings.HasPrefix(name, "libllama-common") && name != "llama-common.dll":
		case h.Name == "package/LICENSE":
			name = "LICENSE"
		default:
			continue
		}
		if h.Size > left {
			return fmt.Errorf("the package unpacks to more than %d bytes", int64(unpackMaxBytes))
		}
		left -= h.Size
		if err := writeFile(filepath.Join(dir, name), tr, h.Size); err != nil {
			return err
		}
	}
	return linkLibs(dir, version)
}

// linkLibs gives each library that carries a version in its name, such as
// libllama.vulkan.v0.5.0.so, its plain name beside it. The libraries find each
// other by the long names, so those stay.
func linkLibs(dir, version string) error {
	for _, stem := range libStems {
		plain := libName(stem)
		ext := filepath.Ext(plain)
		base := strings.TrimSuffix(plain, ext)
		if _, err := os.Lstat(filepath.Join(dir, plain)); err == nil {
			continue
		}
		// "*" is nothing or a backend and a dot.
		found, err := filepath.Glob(filepath.Join(dir, base+".*"+version+ext))
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("the package holds %d files that could be %s of version %s, not one", len(found), plain, version)
		}
		if err := linkFile(dir, filepath.Base(found[0]), plain); err != nil {
			return fmt.Errorf("link %s: %w", plain, err)
		}
	}
	return nil
}

func linkFile(dir, target, name string) error {
	if runtime.GOOS == "windows" { // symbolic links need a privilege there
		return os.Link(filepath.Join(dir, target), filepath.Join(dir, name))
	}
	return os.Symlink(target, filepath.Join(dir, name))
}

// unpackMember extracts one member of a zip archive (a wheel) whose size is known.
func unpackMember(archive, member, dest string, size int64) error {
	zr, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("the wheel is not a zip archive: %w", err)
	}
	defer zr.Close()
	for _, f := range zr.File {
		if f.Name != member {
			continue
		}
		if f.UncompressedSize64 != uint64(size) {
			return fmt.Errorf("%s has %d bytes, not %d", member, f.UncompressedSize64, size)
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		return writeFile(dest, r, size)
	}
	return fmt.Errorf("it holds no %s", member)
}

// writeFile writes exactly size bytes, through to the disk: a rename must not
// outlive them.
func writeFile(path string, r io.Reader, size int64) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.CopyN(out, r, size); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return out.Sync()
}
