package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"llamero/cache/store/storetest"
)

func testCodec() *valueCodec { return newValueCodec(testKey, "llamero", testTokens, testBytes) }

// value is a page's value.
func (c *valueCodec) value(p storetest.Page) []byte {
	return c.seal(c.fill(nil, p.Address, p.Tokens, p.KV))
}

func TestValue(t *testing.T) {
	c := testCodec()
	page := chain(1, 1)[0]
	v := c.value(page)
	if len(v) != c.size() {
		t.Fatalf("%d bytes, not %d", len(v), c.size())
	}
	kv, flaw := c.open(v, page.Address, page.Tokens)
	if flaw != sound || !bytes.Equal(kv, page.KV) {
		t.Fatalf("flaw %v", flaw)
	}
	if cap(kv) != len(kv) {
		t.Error("who appends to a page's KV writes over its HMAC")
	}
	// A buffer that has been used before makes the same value.
	if again := c.seal(c.fill(bytes.Repeat([]byte{1}, 2*len(v)), page.Address, page.Tokens, page.KV)); !bytes.Equal(again, v) {
		t.Error("a value depends on the buffer it is made in")
	}
}

// forge signs what a codec would not make.
func (c *valueCodec) forge(v []byte, change func(message []byte)) []byte {
	message := slices.Clone(v[:len(v)-macBytes])
	change(message)
	return c.seal(message)
}

func TestBadValues(t *testing.T) {
	c := testCodec()
	pages := chain(1, 2)
	page, good := pages[0], c.value(pages[0])
	flip := func(at int) []byte {
		v := slices.Clone(good)
		v[at] ^= 0x10
		return v
	}
	// Another page size that makes values of the same length.
	sized := newValueCodec(testKey, "llamero", testTokens+1, testBytes-4)
	other := storetest.Chain(1, 1, testTokens+1, testBytes-4)[0]
	for _, test := range []struct {
		name  string
		value []byte
		want  flaw
	}{
		{"nothing", nil, badLength},
		{"truncated by one", good[:len(good)-1], badLength},
		{"longer by one", append(slices.Clone(good), 0), badLength},
		{"only a header", good[:headerBytes], badLength},
		{"of larger pages", newValueCodec(testKey, "llamero", testTokens, 2*testBytes).value(storetest.Chain(1, 1, testTokens, 2*testBytes)[0]), badLength},
		{"zeros", make([]byte, len(good)), badMAC},
		{"magic flipped", flip(0), badMAC},
		{"address flipped", flip(30), badMAC},
		{"token flipped", flip(headerBytes), badMAC},
		{"KV flipped", flip(headerBytes + 4*testTokens + 100), badMAC},
		{"last byte of the KV flipped", flip(len(good) - macBytes - 1), badMAC},
		{"HMAC flipped", flip(len(good) - 1), badMAC},
		{"another key", newValueCodec([]byte("another key of 16 or more bytes"), "llamero", testTokens, testBytes).value(page), badMAC},
		{"the known key", newValueCodec([]byte(localKey), "llamero", testTokens, testBytes).value(page), badMAC},
		{"another namespace", newValueCodec(testKey, "other", testTokens, testBytes).value(page), badMAC},
		{"HMAC of another value", slices.Concat(good[:len(good)-macBytes], c.value(pages[1])[len(good)-macBytes:]), badMAC},
		{"another magic", c.forge(good, func(m []byte) { m[7]++ }), badHeader},
		{"a later version", c.forge(good, func(m []byte) { m[8]++ }), badHeader},
		{"unknown flags", c.forge(good, func(m []byte) { m[10] = 1 }), badHeader},
		{"token count", c.forge(good, func(m []byte) { m[12]++ }), badHeader},
		{"KV size", c.forge(good, func(m []byte) { m[23] = 1 }), badHeader},
		{"of pages of another size and the same length", sized.value(other), badHeader},
		{"another page", c.value(pages[1]), badAddress},
		{"another page under this address", c.seal(c.fill(nil, page.Address, pages[1].Tokens, pages[1].KV)), badTokens},
		{"shifted by a token", c.forge(good, func(m []byte) { copy(m[headerBytes:], m[headerBytes+4:]) }), badTokens},
		{"last token", c.forge(good, func(m []byte) { m[headerBytes+4*testTokens-1] ^= 0x80 }), badTokens},
	} {
		t.Run(test.name, func(t *testing.T) {
			kv, flaw := c.open(test.value, page.Address, page.Tokens)
			if flaw != test.want || kv != nil {
				t.Errorf("flaw %v, not %v, KV of %d bytes", flaw, test.want, len(kv))
			}
		})
	}
	if _, flaw := c.open(good, page.Address, page.Tokens[:testTokens-1]); flaw != badTokens {
		t.Errorf("flaw %v where fewer tokens are asked for", flaw)
	}
}

// FuzzValue looks for a value that is taken and is not the page's. What the fuzzer
// makes is tried as it is, and with an HMAC that is right, as one who has the key
// and another program could write it.
func FuzzValue(f *testing.F) {
	c := testCodec()
	page := chain(1, 1)[0]
	good := c.value(page)
	f.Add(good, 0)
	f.Add(good[:100], 3)
	f.Add([]byte{}, 0)
	f.Add(binary.LittleEndian.AppendUint64([]byte(valueMagic), 1), -1)
	f.Fuzz(func(t *testing.T, data []byte, grow int) {
		if grow = min(max(grow, -len(data)), c.size()); grow < 0 {
			data = data[:len(data)+grow]
		} else {
			data = append(slices.Clone(data), make([]byte, grow)...)
		}
		for _, v := range [][]byte{data, c.seal(slices.Clone(data))} {
			kv, flaw := c.open(v, page.Address, page.Tokens)
			if (flaw == sound) != (kv != nil) {
				t.Fatalf("flaw %v, KV of %d bytes", flaw, len(kv))
			}
			if flaw == sound && !bytes.Equal(v[:len(v)-macBytes-testBytes], good[:len(good)-macBytes-testBytes]) {
				t.Fatalf("a value with another header or other tokens is taken: %x", v[:headerBytes+4*testTokens])
			}
		}
	})
}
