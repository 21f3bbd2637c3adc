package llama

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/hybridgroup/yzma/pkg/llama"
	"github.com/hybridgroup/yzma/pkg/loader"
	"github.com/jupiterrider/ffi"
)

// Version is the llama.cpp release whose structs and state format this package knows.
const Version = "0.5.0"

// ErrLibrary marks a library that is missing, of another version, or not whole.
var ErrLibrary = errors.New("llama.cpp library")

var library struct {
	sync.Mutex
	dir string // what is loaded, "" before
}

// load loads the libraries of a folder once per process and checks that they are
// what this package was written for.
func load(dir string) error {
	library.Lock()
	defer library.Unlock()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	if library.dir != "" {
		if library.dir != dir {
			return fmt.Errorf("%w: %s is loaded already, and a process loads one", ErrLibrary, library.dir)
		}
		return nil
	}
	for _, name := range []string{"ggml", "ggml-base", "llama"} {
		if file := loader.GetLibraryFilename(dir, name); !exists(file) {
			return fmt.Errorf("%w: %s is missing; `llamero libs fetch` gets the libraries, --lib names another folder of llama.cpp v%s", ErrLibrary, file, Version)
		}
	}
	if err := checkVersion(dir); err != nil {
		return err
	}
	if err := llama.Load(dir); err != nil {
		return fmt.Errorf("%w: %s does not load: %w", ErrLibrary, dir, err)
	}
	logs.install()
	if err := checkStructs(); err != nil {
		return err
	}
	llama.Init()
	if llama.GGMLBackendDeviceCount() == 0 {
		return fmt.Errorf("%w: %s has no backend (libggml-cpu-*) that this machine can run", ErrLibrary, dir)
	}
	library.dir = dir
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// checkVersion asks the library itself, before anything else of it is used.
func checkVersion(dir string) error {
	lib, err := loader.LoadLibrary(dir, "llama")
	if err != nil {
		return fmt.Errorf("%w: %s does not load: %w", ErrLibrary, dir, err)
	}
	fn, err := lib.Prep("llama_version", &ffi.TypePointer)
	if err != nil {
		return fmt.Errorf("%w: %s is older than v%s, which is needed", ErrLibrary, dir, Version)
	}
	var text *byte
	fn.Call(unsafe.Pointer(&text))
	if got := goString(text); got != Version && !strings.HasPrefix(got, Version+"-") && !strings.HasPrefix(got, Version+"+") {
		return fmt.Errorf("%w: %s is version %q; v%s is needed", ErrLibrary, dir, got, Version)
	}
	return nil
}

// checkStructs compares the defaults that the library writes with those that the
// known layout puts at each field: a field that moved shows as nonsense.
func checkStructs() error {
	c := llama.ContextDefaultParams()
	m := llama.ModelDefaultParams()
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"n_ctx", c.NCtx == 512},
		{"n_batch", c.NBatch == 2048},
		{"n_ubatch", c.NUbatch == 512},
		{"n_seq_max", c.NSeqMax == 1},
		{"rope_scaling_type", c.RopeScalingType == llama.RopeScalingTypeUnspecified},
		{"flash_attn_type", c.FlashAttentionType == llama.FlashAttentionTypeAuto},
		{"yarn_ext_factor", c.YarnExtFactor == -1 || math.IsNaN(float64(c.YarnExtFactor))},
		{"type_k", c.TypeK == typeF16},
		{"type_v", c.TypeV == typeF16},
		{"offload_kqv", c.Offload_kqv == 1},
		{"kv_unified", c.KVUnified == 0},
		{"n_samplers", c.NSamplers == 0},
		{"split_mode", m.SplitMode == llama.SplitModeLayer},
		{"vocab_only", m.VocabOnly == 0},
		{"use_extra_bufts", m.UseExtraBufts == 1},
	} {
		if !f.ok {
			return fmt.Errorf("%w: its structs are laid out in another way than v%s's (%s); it cannot be used", ErrLibrary, Version, f.name)
		}
	}
	return nil
}

const typeF16 llama.GGMLType = 1

// logs routes the library's messages to slog at debug level and keeps the first error
// and the last, since libllama's functions return nothing but "failed".
var logs logSink

type logSink struct {
	once  sync.Once
	mu    sync.Mutex
	line  strings.Builder
	first string       // error line since one was taken: what was wrong
	last  string       // error line: what came of it
	seen  func(string) // is told how each line begins; nil: nobody wants to know
	load  string       // "31/31 layers": what the latest model load put on accelerators
}

func (l *logSink) install() {
	l.once.Do(func() {
		llama.LogSet(purego.NewCallback(func(level int32, text *byte, _ uintptr) uintptr {
			l.write(llama.LogLevel(level), goString(text))
			return 0
		}))
	})
}

func (l *logSink) write(level llama.LogLevel, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Messages come in pieces; a line is one when its newline has come.
	if l.seen != nil && l.line.Len() == 0 {
		l.seen(text)
	}
	l.line.WriteString(text)
	if !strings.HasSuffix(text, "\n") {
		if l.line.Len() > 4096 {
			l.line.Reset()
		}
		return
	}
	line := strings.TrimSpace(l.line.String())
	l.line.Reset()
	if line == "" {
		return
	}
	if level == llama.LogLevelError {
		l.last = line
		if l.first == "" {
			l.first = line
		}
	}
	if _, rest, ok := strings.Cut(line, "offloaded "); ok {
		l.load, _, _ = strings.Cut(rest, " to ")
	}
	slog.Debug(line, "source", "llama.cpp")
}

// watch has f told how each line begins, while the line is not yet complete. It
// must not call the library.
func (l *logSink) watch(f func(text string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = f
}

// takeError returns the first error line since errors were last taken, and forgets all.
func (l *logSink) takeError() string {
	first, _ := l.takeErrors()
	return first
}

// takeErrors returns the first and the latest error line, and forgets them.
func (l *logSink) takeErrors() (first, last string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, last = l.first, l.last
	l.first, l.last = "", ""
	return first, last
}

// takeOffload returns what the latest model load put on accelerators.
func (l *logSink) takeOffload() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.load
	l.load = ""
	return s
}

func goString(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
