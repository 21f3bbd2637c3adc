package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"sync"

	"llamero/cache"
)

// A page's value, numbers in little-endian order:
//
//	 0  magic
//	 8  uint16  version of this layout
//	10  uint16  flags, 0
//	12  uint32  tokens of the page
//	16  uint64  bytes of its KV
//	24  address, 32 bytes
//	56  tokens, uint32 each
//	    KV
//	    HMAC-SHA256 over all that is before it, 32 bytes
//
// A value is as long as any other of the same page size. The HMAC's key depends on
// the namespace too, so that a value copied from one into another is not taken.
const (
	valueMagic   = "llameroP"
	valueVersion = 1
	headerBytes  = 56
	macBytes     = sha256.Size
)

// flaw says what is wrong with a value.
type flaw int

const (
	sound       flaw = iota
	badType          // the key holds something that is not a string
	badLength        // truncated, longer, or of another page size
	badMAC           // flipped, forged, of another key or namespace
	badHeader        // of another version or page size
	badAddress       // another page's
	badTokens        // a collision of addresses
	numberFlaws      // how many there are
)

func (f flaw) String() string {
	return [numberFlaws]string{"sound", "type", "length", "mac", "header", "address", "tokens"}[f]
}

// valueCodec makes values of pages and pages of values. It is safe for concurrent
// use.
type valueCodec struct {
	pageTokens, pageBytes int
	macs                  sync.Pool // of hash.Hash: their set-up allocates
}

// newValueCodec returns the codec of a namespace, in which key authenticates.
func newValueCodec(key []byte, namespace string, pageTokens, pageBytes int) *valueCodec {
	derive := hmac.New(sha256.New, key)
	derive.Write([]byte("llamero page\x00" + namespace))
	own := derive.Sum(nil)
	c := &valueCodec{pageTokens: pageTokens, pageBytes: pageBytes}
	c.macs.New = func() any { return hmac.New(sha256.New, own) }
	return c
}

// size is how long a value is.
func (c *valueCodec) size() int { return valueBytes(c.pageTokens, c.pageBytes) }

func valueBytes(pageTokens, pageBytes int) int {
	return headerBytes + 4*pageTokens + pageBytes + macBytes
}

// fill copies a page into buf, in place of what was there. The value is complete
// once seal has been called; kv is not needed for that.
func (c *valueCodec) fill(buf []byte, a cache.Address, tokens []cache.Token, kv []byte) []byte {
	buf = append(buf[:0], valueMagic...)
	buf = binary.LittleEndian.AppendUint16(buf, valueVersion)
	buf = binary.LittleEndian.AppendUint16(buf, 0)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(tokens)))
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(kv)))
	buf = append(buf, a[:]...)
	for _, t := range tokens {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(t))
	}
	return append(buf, kv...)
}

// seal appends the HMAC.
func (c *valueCodec) seal(buf []byte) []byte { return c.mac(buf, buf) }

// mac appends the HMAC of message to out.
func (c *valueCodec) mac(out, message []byte) []byte {
	h := c.macs.Get().(hash.Hash)
	defer c.macs.Put(h)
	h.Reset()
	h.Write(message)
	return h.Sum(out)
}

// open returns the KV in a value, which it shares memory with, if the value is
// authentic and the page's. Nothing is parsed before it is known to be authentic.
func (c *valueCodec) open(value []byte, a cache.Address, tokens []cache.Token) ([]byte, flaw) {
	if len(value) != c.size() {
		return nil, badLength
	}
	message, mac := value[:len(value)-macBytes], value[len(value)-macBytes:]
	var want [macBytes]byte
	if !hmac.Equal(mac, c.mac(want[:0], message)) {
		return nil, badMAC
	}
	if string(message[:8]) != valueMagic ||
		binary.LittleEndian.Uint16(message[8:]) != valueVersion ||
		binary.LittleEndian.Uint16(message[10:]) != 0 ||
		binary.LittleEndian.Uint32(message[12:]) != uint32(c.pageTokens) ||
		binary.LittleEndian.Uint64(message[16:]) != uint64(c.pageBytes) {
		return nil, badHeader
	}
	if cache.Address(message[24:headerBytes]) != a {
		return nil, badAddress
	}
	if len(tokens) != c.pageTokens {
		return nil, badTokens
	}
	rest := message[headerBytes:]
	for _, t := range tokens {
		if binary.LittleEndian.Uint32(rest) != uint32(t) {
			return nil, badTokens
		}
		rest = rest[4:]
	}
	return slices.Clip(rest), sound
}
