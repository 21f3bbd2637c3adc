package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"llamero/server/openai"
)

// keyring compares secrets in constant time: their digests, all of them, always.
type keyring struct {
	names   []string
	digests [][sha256.Size]byte
}

func newKeyring(keys []Key) keyring {
	var k keyring
	for _, key := range keys {
		k.names = append(k.names, key.Name)
		k.digests = append(k.digests, sha256.Sum256([]byte(key.Secret)))
	}
	return k
}

func (k *keyring) lookup(secret string) (name string, ok bool) {
	d := sha256.Sum256([]byte(secret))
	found := -1
	for i := range k.digests {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(d[:], k.digests[i][:]), i, found)
	}
	if found < 0 {
		return "", false
	}
	return k.names[found], true
}

// authorise is the handler before every one that costs something.
func (s *Server) authorise(c *fiber.Ctx) error {
	if len(s.keys.names) == 0 {
		if s.opt.Open || isLoopback(c.Context().RemoteAddr()) {
			return c.Next()
		}
		return unauthorised("This server has no API keys, so it serves clients on its own machine only.")
	}
	scheme, secret, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return unauthorised("No API key was given. Send it as: Authorization: Bearer KEY")
	}
	name, ok := s.keys.lookup(strings.TrimSpace(secret))
	if !ok {
		return unauthorised("The API key is not valid.")
	}
	recordOf(c).Key = name
	return c.Next()
}

func unauthorised(msg string) error {
	return &openai.Error{Status: http.StatusUnauthorized, Type: openai.TypeInvalidRequest, Code: openai.CodeInvalidKey, Message: msg}
}

func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
