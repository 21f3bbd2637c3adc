package models

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Bounds of a header that is believed. They are far above any model's and keep a
// crafted file from costing more than its own size.
const (
	ggufMaxKeys    = 1 << 16
	ggufMaxTensors = 1 << 20
	ggufMaxDims    = 4
	ggufMaxName    = 1 << 16
	ggufMaxHeader  = 64 << 20 // bytes; vocabularies of 260,000 tokens take some 15 MB
)

// errShort is a file that ends before its header says.
var errShort = errors.New("the file is truncated")

// CheckGGUF reads a model file's header and reports what is wrong with it: no such
// file, not a GGUF, a version that llama.cpp does not read, cut off. It reads the
// metadata and the tensor table (megabytes at most), never the weights, and notes
// a truncation that reaches the last tensor's first byte.
func CheckGGUF(path string) error {
	f, _, err := openGGUF(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadHeader returns a model file's header, metadata and tensor table, once it has
// been seen to be what CheckGGUF asks for: every length in it stays inside it. It
// returns the file's size, too.
func ReadHeader(path string) (header []byte, size int64, err error) {
	f, n, err := openGGUF(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read the model file: %w", err)
	}
	header = make([]byte, n)
	if _, err := f.ReadAt(header, 0); err != nil {
		return nil, 0, fmt.Errorf("read the model file: %w", err)
	}
	// It may have been another file a moment ago: what is looked at is what is returned.
	if m, err := checkGGUF(bytes.NewReader(header), st.Size()); err != nil || m != n {
		return nil, 0, fmt.Errorf("the model file %s changes while it is read", path)
	}
	return header, st.Size(), nil
}

// openGGUF opens a model file that looks whole and says how long its header is.
func openGGUF(path string) (_ *os.File, header int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("the model file %s is not there", path)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the model file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("open the model file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("the model %s is not a file", path)
	}
	if header, err = checkGGUF(f, st.Size()); err != nil {
		return nil, 0, fmt.Errorf("the model file %s cannot be used: %w", path, err)
	}
	return f, header, nil
}

// checkGGUF returns the length of the header, up to the end of the tensor table.
func checkGGUF(r io.Reader, size int64) (int64, error) {
	g := &ggufReader{r: bufio.NewReaderSize(r, 1<<16), size: size}
	var magic [4]byte
	g.read(magic[:])
	if g.err != nil || string(magic[:]) != "GGUF" {
		return 0, errors.New("it is not a GGUF file")
	}
	version := g.u32()
	if g.err == nil && (version < 2 || version > 3) {
		return 0, fmt.Errorf("it is GGUF version %d; 2 and 3 can be read (a big-endian file shows as a huge version)", version)
	}
	tensors, keys := g.u64(), g.u64()
	if g.err == nil && (tensors > ggufMaxTensors || keys > ggufMaxKeys) {
		return 0, fmt.Errorf("its header is damaged: %d tensors, %d keys", tensors, keys)
	}
	if g.err == nil && tensors == 0 {
		return 0, errors.New("it holds no tensors (a vocabulary only?)")
	}
	align := uint64(32)
	for i := uint64(0); i < keys && g.err == nil; i++ {
		key := g.str()
		typ := g.u32()
		if key == "general.alignment" && typ == ggufUint32 {
			align = uint64(g.u32())
			if align == 0 || align > 1<<20 || align&(align-1) != 0 {
				return 0, fmt.Errorf("its header is damaged: alignment %d", align)
			}
			continue
		}
		if key == "split.tensors.count" && typ < uint32(len(ggufWidth)) && ggufWidth[typ] > 0 {
			// Readers make room for so many.
			if n := g.uint(ggufWidth[typ]); n > ggufMaxTensors {
				return 0, fmt.Errorf("its header is damaged: %d tensors in all parts", n)
			}
			continue
		}
		g.skipValue(typ)
	}
	var last uint64 // the greatest offset of a tensor's data
	for i := uint64(0); i < tensors && g.err == nil; i++ {
		g.str()
		dims := g.u32()
		if dims > ggufMaxDims {
			g.fail(fmt.Errorf("its header is damaged: a tensor of %d dimensions", dims))
			break
		}
		g.skip(uint64(dims)*8 + 4)
		last = max(last, g.u64())
	}
	if g.err != nil {
		return 0, g.err
	}
	start := (uint64(g.pos) + align - 1) / align * align
	if last >= uint64(size) || start+last >= uint64(size) {
		return 0, errShort
	}
	return g.pos, nil
}

// GGUF value types whose size varies, and the one read here.
const (
	ggufUint32 = 4
	ggufString = 8
	ggufArray  = 9
)

// ggufWidth is the size of a value by its type; 0 where it varies.
var ggufWidth = [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

// ggufReader reads little-endian values and keeps the first error.
type ggufReader struct {
	r    *bufio.Reader
	pos  int64
	size int64
	err  error
	buf  [8]byte
}

func (g *ggufReader) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *ggufReader) read(b []byte) {
	if g.err != nil {
		clear(b)
		return
	}
	n, err := io.ReadFull(g.r, b)
	g.pos += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errShort
	}
	if err != nil {
		clear(b)
		g.fail(err)
	}
}

// uint reads a number of so many bytes, at most 8.
func (g *ggufReader) uint(width uint64) uint64 {
	clear(g.buf[:])
	g.read(g.buf[:width])
	return binary.LittleEndian.Uint64(g.buf[:])
}

func (g *ggufReader) u32() uint32 { g.read(g.buf[:4]); return binary.LittleEndian.Uint32(g.buf[:4]) }
func (g *ggufReader) u64() uint64 { g.read(g.buf[:8]); return binary.LittleEndian.Uint64(g.buf[:8]) }

// room says whether a header can go on for n bytes.
func (g *ggufReader) room(n uint64) bool {
	switch {
	case n > uint64(g.size-g.pos):
		g.fail(errShort)
	case n > uint64(max(0, ggufMaxHeader-g.pos)):
		g.fail(fmt.Errorf("its header is damaged: more than %d bytes", ggufMaxHeader))
	default:
		return true
	}
	return false
}

func (g *ggufReader) skip(n uint64) {
	if g.err != nil {
		return
	}
	if !g.room(n) {
		return
	}
	for n > 0 {
		k, err := g.r.Discard(int(min(n, 1<<20)))
		g.pos += int64(k)
		n -= uint64(k)
		if err != nil {
			g.fail(errShort)
			return
		}
	}
}

// str reads a name.
func (g *ggufReader) str() string {
	n := g.u64()
	if n > ggufMaxName {
		g.fail(fmt.Errorf("its header is damaged: a name of %d bytes", n))
		return ""
	}
	if g.err != nil || !g.room(n) {
		return ""
	}
	b := make([]byte, n)
	g.read(b)
	return string(b)
}

// skipValue passes over a value. Arrays of arrays are not in use and refused, so
// that nesting cannot grow.
func (g *ggufReader) skipValue(typ uint32) {
	switch {
	case typ == ggufString:
		g.skip(g.u64())
	case typ == ggufArray:
		elem, n := g.u32(), g.u64()
		switch {
		case g.err != nil:
		case n > uint64(g.size):
			g.fail(errShort)
		case elem == ggufString:
			for i := uint64(0); i < n && g.err == nil; i++ {
				g.skip(g.u64())
			}
		case elem < uint32(len(ggufWidth)) && ggufWidth[elem] > 0:
			g.skip(n * ggufWidth[elem])
		default:
			g.fail(fmt.Errorf("its header is damaged: an array of type %d", elem))
		}
	case typ < uint32(len(ggufWidth)):
		g.skip(ggufWidth[typ])
	default:
		g.fail(fmt.Errorf("its header is damaged: a value of type %d", typ))
	}
}
