package worker

import (
	"encoding/binary"
	"errors"
	"math"

	"llamero/engine"
)

// Integers are varints, zigzag where they may be negative; floats and what has no
// small values are little-endian. What is zero in most edits and rows is left out
// and its absence noted in a mask. A count is checked against the bytes that are left
// before anything is allocated for it.

// errMalformed says that bytes are not what they should be.
var errMalformed = errors.New("malformed")

// decoder reads from b. After the first fault everything it returns is zero.
type decoder struct {
	b   []byte
	bad bool
}

// end returns an error unless all bytes were read, and as what they are.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errMalformed
	}
	return nil
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are
		x := d.b[0]
		d.b = d.b[1:]
		return uint64(x)
	}
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) int64() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) int32() int32 {
	x := d.int64()
	if x < math.MinInt32 || x > math.MaxInt32 {
		d.fail()
		return 0
	}
	return int32(x)
}

// token reads what appendToken wrote; -1 is as rare as it is long.
func (d *decoder) token() engine.Token {
	x := d.uvarint()
	if x > math.MaxUint32 {
		d.fail()
		return 0
	}
	return engine.Token(uint32(x))
}

// take returns the next n bytes, at most 8.
func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail()
		return make([]byte, 8)[:n]
	}
	x := d.b[:n]
	d.b = d.b[n:]
	return x
}

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) uint16() uint16 { return binary.LittleEndian.Uint16(d.take(2)) }

func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }

func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) float32() float32 { return math.Float32frombits(d.uint32()) }

// count reads how many things of at least so many bytes each follow.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/least) {
		d.fail()
		return 0
	}
	return int(n)
}

// tokens returns a list with memory of its own; an empty one comes back nil.
func (d *decoder) tokens() []engine.Token {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	out := make([]engine.Token, n)
	for i := range out {
		out[i] = d.token()
	}
	return out
}

func appendUvarint(b []byte, x uint64) []byte {
	if x < 0x80 {
		return append(b, byte(x))
	}
	return binary.AppendUvarint(b, x)
}

func appendInt(b []byte, x int64) []byte { return appendUvarint(b, uint64(x<<1)^uint64(x>>63)) }

func appendToken(b []byte, t engine.Token) []byte { return appendUvarint(b, uint64(uint32(t))) }

func appendTokens(b []byte, tokens []engine.Token) []byte {
	b = appendUvarint(b, uint64(len(tokens)))
	for _, t := range tokens {
		b = appendToken(b, t)
	}
	return b
}

func appendFloat(b []byte, x float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
}
