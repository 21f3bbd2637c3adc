package models

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	digest := func() string {
		t.Helper()
		d, err := Digest(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2
	write(path, "abc")
	if d := digest(); d != abc {
		t.Errorf("digest %s", d)
	}
	// While size and time stay, the note is believed: the file is not read again.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(path, "xyz")
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if d := digest(); d != abc {
		t.Error("the note was not read")
	}
	// Otherwise it is not, nor is one that is damaged.
	write(path, "abcd")
	other := digest()
	if other == abc {
		t.Error("a changed file has its old digest")
	}
	for _, note := range []string{"", "{", `{"size":4}`, `{"size":4,"sha256":"zz"}`} {
		write(path+".digest", note)
		if d := digest(); d != other {
			t.Errorf("note %q gives %s", note, d)
		}
	}
	if _, err := Digest(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has a digest")
	}
}
