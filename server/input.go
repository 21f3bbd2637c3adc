package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/server/openai"
)

// Bodies are streamed: fasthttp hands a request over with the first few KiB of its
// body, and the rest is read by the handler that wants it, behind its check of the
// key. What is held is what has come. Were bodies read by fasthttp, a client could
// have memory set aside for a length that it only announces, key or no key.

const (
	firstRead = 16 << 10 // bytes; what most bodies fit in
	maxDrain  = 64 << 20
	drainTime = 5 * time.Second
)

// errTruncated is a body that ends before the length that was announced.
var errTruncated = fiber.NewError(http.StatusBadRequest, "the body is truncated")

// input returns a request's body, which is the caller's.
func (s *Server) input(c *fiber.Ctx) ([]byte, error) {
	if enc := c.Get(fiber.HeaderContentEncoding); enc != "" && enc != "identity" {
		return nil, &openai.Error{Status: http.StatusUnsupportedMediaType, Type: openai.TypeInvalidRequest,
			Message: "Compressed bodies are not taken; send plain JSON."}
	}
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return nil, nil
	}
	length := c.Request().Header.ContentLength() // negative: it comes in chunks
	if length > s.opt.BodyLimit {
		return nil, fiber.ErrRequestEntityTooLarge
	}
	body, err := readBody(stream, length, s.opt.BodyLimit)
	var timeout net.Error
	switch {
	case err == nil:
		_ = c.Request().CloseBodyStream() // there is nothing to drain
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fiber.ErrRequestTimeout
	case !errors.As(err, new(*fiber.Error)):
		err = fiber.NewError(http.StatusBadRequest, err.Error())
	}
	return body, err
}

// readBody reads a body of a length, or of any if that is negative, up to a limit. It
// doubles its memory as bytes come.
func readBody(r io.Reader, length, limit int) ([]byte, error) {
	most := limit + 1
	if length >= 0 {
		most = length
	}
	b := make([]byte, 0, min(most, firstRead))
	for {
		if len(b) == length {
			return b, nil
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, min(max(len(b), firstRead), most-len(b)))
		}
		n, err := r.Read(b[len(b):min(cap(b), most)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, fiber.ErrRequestEntityTooLarge
		case err == io.EOF && length >= 0 && len(b) < length:
			return nil, errTruncated
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// drain reads what is left of a body that nobody wanted. A connection closed with
// unread bytes is reset, and the client, in the midst of sending, would see that
// instead of the answer, and send it all again. What is read, and for how long, has a
// bound; beyond it the connection is closed all the same.
func (s *Server) drain(c *fiber.Ctx) {
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return
	}
	if c.Context().Conn().SetReadDeadline(time.Now().Add(drainTime)) == nil {
		if _, err := io.CopyN(io.Discard, stream, maxDrain); err == io.EOF {
			return
		}
	}
	c.Context().SetConnectionClose()
}
