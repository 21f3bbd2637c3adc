package models

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// gguf builds a file: one key of each kind and one tensor of 64 bytes.
func gguf(version uint32) []byte {
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	str := func(s string) { le(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	le(version)
	le(uint64(1)) // tensors
	le(uint64(4)) // keys
	str("general.architecture")
	le(uint32(ggufString))
	str("llama")
	str("general.alignment")
	le(uint32(ggufUint32))
	le(uint32(64))
	str("a.list")
	le(uint32(ggufArray))
	le(uint32(ggufString))
	le(uint64(2))
	str("x")
	str("yy")
	str("b.list")
	le(uint32(ggufArray))
	le(uint32(6))
	le(uint64(3))
	b.Write(make([]byte, 12))
	str("weight")
	le(uint32(1))
	le(uint64(16))
	le(uint32(0))
	le(uint64(0))
	for b.Len()%64 != 0 {
		b.WriteByte(0)
	}
	b.Write(make([]byte, 64))
	return b.Bytes()
}

func TestCheckGGUF(t *testing.T) {
	good := gguf(3)
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint64(huge[8:], 1<<40)
	noTensor := bytes.Clone(good)
	binary.LittleEndian.PutUint64(noTensor[8:], 0)
	tests := []struct {
		name string
		file []byte
		err  string // "" is none
	}{
		{"good", good, ""},
		{"version 2", gguf(2), ""},
		{"version 1", gguf(1), "GGUF version 1"},
		{"empty", nil, "not a GGUF"},
		{"text", []byte("<html>404</html>"), "not a GGUF"},
		{"cut in the header", good[:60], "truncated"},
		{"cut before the weights", good[:len(good)-64], "truncated"},
		{"claims", huge, "damaged"},
		{"no tensors", noTensor, "no tensors"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			err := CheckGGUF(path)
			if tt.err == "" && err != nil {
				t.Fatal(err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path)) {
				t.Fatalf("error %v, want one with %q and the path", err, tt.err)
			}
		})
	}
	if err := CheckGGUF(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("missing: %v", err)
	}
	if err := CheckGGUF(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("folder: %v", err)
	}
}

// Whatever the bytes are, the check ends without a panic, and a file that passes
// still fails with its end cut off.
func FuzzCheckGGUF(f *testing.F) {
	f.Add(gguf(3))
	f.Add(gguf(3)[:100])
	f.Add([]byte("GGUF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := checkGGUF(bytes.NewReader(b), int64(len(b))); err == nil {
			if _, err := checkGGUF(bytes.NewReader(b[:16]), 16); err == nil {
				t.Error("a header alone passed")
			}
		}
	})
}

func TestResolve(t *testing.T) {
	t.Setenv(CacheEnv, t.TempDir())
	var missing *MissingError
	if _, err := Resolve(Default); !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "llamero models fetch") {
		t.Errorf("default: %v", err)
	}
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := os.WriteFile(path, gguf(3), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Resolve(path); err != nil || got != path {
		t.Errorf("path: %q, %v", got, err)
	}
}

// The default model is the tuned file where that has been made, else the fetched one.
func TestResolveTuned(t *testing.T) {
	saved := lock
	t.Cleanup(func() { lock = saved })
	cache := t.TempDir()
	t.Setenv(CacheEnv, cache)
	good := gguf(3)
	lock.Model.MemberBytes = int64(len(good))
	lock.Model.Tuned = &tuned{Type: "q8_0", Bytes: int64(len(good)), Tuning: Tuning{SourceType: "q4_1", KL: 0.001}}
	put := func(name string, b []byte) string {
		path := filepath.Join(cache, "models", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(want string, isTuned bool) {
		t.Helper()
		got, err := Resolve(Default)
		if err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if about, ok := Tuned(got); ok != isTuned || ok && about.KL != 0.001 {
			t.Errorf("%s: tuned %v, %+v", got, ok, about)
		}
	}
	fetched := put(lock.Model.file(), good)
	check(fetched, false)
	put(lock.Model.tunedFile(), good[:60]) // not whole
	check(fetched, false)
	check(put(lock.Model.tunedFile(), good), true)
	if got, err := Fetched(); err != nil || got != fetched {
		t.Errorf("fetched: %q, %v", got, err)
	}
	lock.Model.Tuned = nil
	check(fetched, false)
	if TunedType() != "" {
		t.Errorf("tuned type %q", TunedType())
	}
}

func TestResolveLibs(t *testing.T) {
	t.Setenv(CacheEnv, t.TempDir())
	if _, err := ResolveLibs("", "no-such-backend"); err == nil || !strings.Contains(err.Error(), "--lib") {
		t.Errorf("unknown backend: %v", err)
	}
	if _, err := ResolveLibs(filepath.Join(t.TempDir(), "none"), "cpu"); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("no folder: %v", err)
	}
	dir := t.TempDir()
	if _, err := ResolveLibs(dir, "cpu"); err == nil || !strings.Contains(err.Error(), libName("llama")) {
		t.Errorf("empty folder: %v", err)
	}
	for _, stem := range libStems {
		if err := os.WriteFile(filepath.Join(dir, libName(stem)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ResolveLibs(dir, "cpu"); err != nil || got != dir {
		t.Errorf("good folder: %q, %v", got, err)
	}
	if _, err := lock.find(runtime.GOOS, runtime.GOARCH, "cpu"); err == nil {
		var missing *MissingError
		if _, err := ResolveLibs("", "cpu"); !errors.As(err, &missing) || !strings.Contains(err.Error(), "llamero libs fetch --backend cpu") {
			t.Errorf("not fetched: %v", err)
		}
	}
}

func TestLock(t *testing.T) {
	if strings.Contains(string(lockJSON), "://") {
		t.Error("the lock holds an address")
	}
	for _, p := range [][3]string{{"linux", "amd64", "cpu"}, {"linux", "amd64", "cuda"}, {"linux", "amd64", "vulkan"}, {"linux", "arm64", "cpu"}} {
		if _, err := lock.find(p[0], p[1], p[2]); err != nil {
			t.Error(err)
		}
	}
	if _, err := lock.find("plan9", "mips", "cpu"); err == nil || !strings.Contains(err.Error(), "build llama.cpp v") {
		t.Errorf("unknown platform: %v", err)
	}
	for name, src := range map[string]string{
		"no digest":    strings.Replace(string(lockJSON), "5uCC", "!!!!", 1),
		"listed twice": strings.Replace(string(lockJSON), `"cuda"`, `"cpu"`, 1),
		"no version":   strings.Replace(string(lockJSON), `"v0.5.0"`, `""`, 1),
		"unknown key":  strings.Replace(string(lockJSON), `"license"`, `"licence"`, 1),
		"tuned":        strings.Replace(string(lockJSON), `"q8_0"`, `"../q8_0"`, 1),
		"no model sum": strings.Replace(string(lockJSON), `"bcc8`, `"zzzz`, 1),
	} {
		if _, err := parseLock([]byte(src)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
