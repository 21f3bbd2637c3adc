package worker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// kind says what a frame is.
type kind uint8

const (
	kindHello  kind = iota + 1 // to the child, first: what it is to be (JSON)
	kindReady                  // from it: what it has loaded, or why not (JSON)
	kindPulse                  // from it: it is alive
	kindPlan                   // to an engine: a step
	kindCancel                 // to an engine: the running step is no longer wanted
	kindSaved                  // from an engine: edits are done, and pages stand in the ring
	kindTaken                  // to an engine: the ring's pages have been copied
	kindOutput                 // from an engine: a pass has run
	kindDone                   // from an engine: the step has ended
	kindVocab                  // from a tokenizer, after kindReady: the piece table
	kindEncode                 // to a tokenizer: a text
	kindTokens                 // from a tokenizer: its tokens
)

const (
	frameHeader = 5 // u32 length of the payload, u8 kind
	// maxFrame bounds what one side believes of the other; memory is taken as bytes come.
	maxFrame = 256 << 20
	readStep = 1 << 20
)

// frameReader reads frames. A payload is valid until the next call.
type frameReader struct {
	in     *bufio.Reader
	header [frameHeader]byte
	buf    []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(r, 64<<10)}
}

func (r *frameReader) next() (kind, []byte, error) {
	if _, err := io.ReadFull(r.in, r.header[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.LittleEndian.Uint32(r.header[:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes; at most %d", n, maxFrame)
	}
	r.buf = r.buf[:0]
	for have := 0; have < int(n); have = len(r.buf) {
		part := min(int(n)-have, readStep)
		r.buf = slices.Grow(r.buf, part)[:have+part]
		if _, err := io.ReadFull(r.in, r.buf[have:]); err != nil {
			return 0, nil, fmt.Errorf("a frame was cut off: %w", err)
		}
	}
	return kind(r.header[4]), r.buf, nil
}

// frameWriter writes frames. begin locks it, end closes the frame, and send writes
// what there is and unlocks:
//
//	b := w.begin(kindOutput)
//	w.end(appendOutput(b, &out))
//	err := w.send()
//
// hold in place of send keeps the frame back until the next send.
type frameWriter struct {
	mu    sync.Mutex
	out   io.Writer
	buf   []byte
	start int // of the open frame
}

func newFrameWriter(w io.Writer) *frameWriter { return &frameWriter{out: w} }

func (w *frameWriter) begin(k kind) []byte {
	w.mu.Lock()
	w.start = len(w.buf)
	return append(w.buf, 0, 0, 0, 0, byte(k))
}

func (w *frameWriter) end(b []byte) {
	binary.LittleEndian.PutUint32(b[w.start:], uint32(len(b)-w.start-frameHeader))
	w.buf = b
}

func (w *frameWriter) hold() { w.mu.Unlock() }

func (w *frameWriter) send() error {
	defer w.mu.Unlock()
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	if cap(w.buf) > readStep {
		w.buf = nil // a large frame is rare
	}
	return err
}

// put sends a frame whose payload is there already.
func (w *frameWriter) put(k kind, payload ...byte) error {
	w.end(append(w.begin(k), payload...))
	return w.send()
}
