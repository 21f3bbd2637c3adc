package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"llamero/tokenizer"
)

// Token is the vocabulary's token.
type Token = tokenizer.Token

// Address names a page: SHA-256 over its parent's address and its tokens. A
// weaker hash would let a client find two texts with one address.
type Address [sha256.Size]byte

// String is the address's beginning, for people.
func (a Address) String() string { return hex.EncodeToString(a[:6]) }

// Root is the parent of first pages. Its parts are all that makes KV incompatible:
// the model's digest, the library's version, the types of K and V, the page's size,
// the tenant. Parts are told apart: ("a", "bc") is not ("ab", "c").
func Root(parts ...string) Address {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return Address(h.Sum(nil))
}

// Child is the address of the page that holds tokens behind the page a.
func (a Address) Child(tokens []Token) Address {
	buf := make([]byte, 0, 512)
	buf = append(buf, a[:]...)
	for _, t := range tokens {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(t))
	}
	return sha256.Sum256(buf)
}

// Chain appends the addresses of the whole pages of tokens that chain, which begins
// at root, does not have yet.
func Chain(root Address, chain []Address, tokens []Token, pageTokens int) []Address {
	last := root
	if n := len(chain); n > 0 {
		last = chain[n-1]
	}
	for end := (len(chain) + 1) * pageTokens; end <= len(tokens); end += pageTokens {
		last = last.Child(tokens[end-pageTokens : end])
		chain = append(chain, last)
	}
	return chain
}
