package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// digestNote is what is remembered beside a model file, so that gigabytes are read
// once.
type digestNote struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
	SHA256  string    `json:"sha256"`
}

const maxNote = 1 << 10

// Digest returns the SHA-256 of a file, in hex. It is remembered in FILE.digest with
// the file's size and time, if that can be written, and taken from there while they
// have not changed.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the model's digest: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("the model's digest: %w", err)
	}
	note := path + ".digest"
	if n, ok := readNote(note); ok && n.Size == info.Size() && n.ModTime.Equal(info.ModTime()) {
		return n.SHA256, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("the model's digest: %w", err)
	}
	n := digestNote{info.Size(), info.ModTime(), hex.EncodeToString(h.Sum(nil))}
	writeNote(note, n) // a folder that is not ours to write in: next time again
	return n.SHA256, nil
}

func readNote(path string) (n digestNote, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return n, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil || json.Unmarshal(b, &n) != nil {
		return n, false
	}
	raw, err := hex.DecodeString(n.SHA256)
	return n, err == nil && len(raw) == sha256.Size
}

func writeNote(path string, n digestNote) {
	b, err := json.Marshal(n)
	if err != nil {
		return
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if os.WriteFile(tmp, append(b, '\n'), 0o644) != nil || os.Rename(tmp, path) != nil {
		os.Remove(tmp)
	}
}
