package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"llamero/engine"
	"llamero/engine/llama"
)

// protocol is the version of the frames; both sides are of one build, which is
// checked too.
const protocol = 1

// role is what a child is to be.
type role string

const (
	roleEngine    role = "engine"
	roleTokenizer role = "tokenizer"
)

// hello is the first frame to a child.
type hello struct {
	Protocol int
	Build    string
	Role     role
	Level    slog.Level    // of its log
	Options  llama.Options // its Slab is the child's to map
	Slab     int64         // bytes of the host pages' memory, descriptor slabFD; 0: none
	Ring     int64         // bytes of the ring, descriptor ringFD
}

// ready is a child's answer, once it has loaded.
type ready struct {
	Error   string // why it could not; the rest is empty then
	Code    byte   // what Error is, see sentinels
	Limits  engine.Limits
	Info    llama.Info
	Form    string
	Unpaged string // why the engine has no pages, where some were asked for
}

// Descriptors of a child, see os/exec's ExtraFiles.
const (
	socketFD = 3 + iota
	slabFD
	ringFD
)

// build tells this program from others of its name: a file that was replaced while
// the gateway runs must not become its child.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return runtime.Version()
	}
	text := info.GoVersion + " " + info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" || s.Key == "vcs.time" {
			text += " " + s.Value
		}
	}
	return text
}

// readHello reads what a child is to be.
func readHello(in *frameReader) (h hello, err error) {
	k, b, err := in.next()
	switch {
	case err != nil:
		return h, fmt.Errorf("worker: the first frame: %w", err)
	case k != kindHello:
		return h, fmt.Errorf("worker: the first frame is of kind %d", k)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("worker: the first frame: %w", err)
	}
	switch {
	case h.Protocol != protocol || h.Build != build():
		return h, errors.New("the program's file has been replaced by another build since the gateway started: restart the gateway")
	case h.Slab < 0 || h.Ring < 0 || h.Role != roleEngine && h.Role != roleTokenizer:
		return h, fmt.Errorf("worker: a %q with %d bytes of pages and %d of ring", h.Role, h.Slab, h.Ring)
	}
	return h, nil
}

func sendReady(out *frameWriter, r ready) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return out.put(kindReady, b...)
}

// failed is the answer of a child that could not load.
func failed(err error) ready { return ready{Error: clip(err.Error()), Code: sentinel(err)} }

// err is why a child could not load.
func (r *ready) err() error {
	e := &remoteError{text: r.Error}
	if int(r.Code) < len(sentinels) {
		e.is = sentinels[r.Code]
	}
	return e
}

// decodeReady reads a child's answer.
func decodeReady(b []byte) (r ready, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("the child's answer: %w", err)
	}
	return r, nil
}
