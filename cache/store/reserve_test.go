//go:build unix

package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A mapped file has its room on the disk, so that a full disk is an error now and
// not the end of the process later; a file that is there already keeps its bytes.
func TestMapFileTakesRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pages")
	const size = 3<<20 + 17
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size/2); err != nil { // with a hole
		t.Fatal(err)
	}
	b, err := mapFile(path, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != size || string(b[:4]) != "kept" {
		t.Fatalf("%d bytes that begin with %q", len(b), b[:4])
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || st.Size() != size || int64(sys.Blocks)*512 < size/2 {
		t.Errorf("a file of %d bytes has %+v", st.Size(), st.Sys())
	}
	if small, err := mapFile(path, 100); err != nil || len(small) != 100 || string(small[:4]) != "kept" {
		t.Errorf("made smaller: %d bytes (%v)", len(small), err)
	}
}

func TestExtend(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("kept"); err != nil {
		t.Fatal(err)
	}
	if err := extend(f, 4, 2<<20+3); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || len(b) != 2<<20+3 || string(b[:4]) != "kept" || b[4] != 0 {
		t.Errorf("%d bytes (%v)", len(b), err)
	}
}
