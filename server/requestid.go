package server

import (
	"crypto/rand"
	"encoding/hex"
)

const (
	headerRequestID = "X-Request-Id"
	maxRequestID    = 128
)

// requestID takes a client's id if it is harmless in a log line and a header, and
// makes one otherwise. The result is a copy.
func requestID(given []byte) string {
	if len(given) == 0 || len(given) > maxRequestID {
		return newID("req_")
	}
	for _, c := range given {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' || c == '=':
		default:
			return newID("req_")
		}
	}
	return string(given)
}

// newID returns prefix and 24 random hexadecimal digits.
func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}
