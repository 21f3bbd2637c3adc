package store

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Bounds of a reply beside that of its strings. They are far above what HELLO,
// CLUSTER SLOTS and an error need.
const (
	maxReplyLine     = 64 << 10
	maxReplyElements = 32 << 10
	maxReplyDepth    = 16
)

// guard is a connection on which no reply can be longer than it may be. The client
// allocates what a reply's header announces and descends as deep as replies are
// nested, so the guard follows the protocol (RESP 2 and 3) and breaks the connection
// at a header that announces too much, before the client has seen it.
type guard struct {
	net.Conn
	maxString int

	line  []byte // beginning of a header line whose end has not come
	skip  int    // bytes of a string, and of the line's end behind it, that have not come
	depth []int  // elements that the open arrays still want
	err   error
}

// guarded wraps a connection.
func guarded(c net.Conn, maxString int) net.Conn {
	g := &guard{Conn: c, maxString: maxString}
	// The client looks at a plain socket to see whether an idle connection is alive.
	if s, ok := c.(syscall.Conn); ok {
		return struct {
			*guard
			syscall.Conn
		}{g, s}
	}
	return g
}

// Read implements net.Conn. It is called by one goroutine at a time.
func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.Conn.Read(p)
	if g.err = g.scan(p[:n]); g.err != nil {
		return 0, g.err
	}
	return n, err
}

func (g *guard) scan(b []byte) error {
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(b))
			g.skip -= n
			b = b[n:]
			if g.skip == 0 {
				g.element()
			}
			continue
		}
		end := bytes.IndexByte(b, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(b)
		}
		if len(g.line)+end > maxReplyLine {
			return errors.New("redis: a reply has too long a line")
		}
		g.line = append(g.line, b[:end]...)
		b = b[end:]
		if whole {
			if err := g.header(bytes.TrimRight(g.line, "\r\n")); err != nil {
				return err
			}
			g.line = g.line[:0]
		}
	}
	return nil
}

// header takes the line that begins an element.
func (g *guard) header(line []byte) error {
	if len(line) == 0 {
		return errors.New("redis: a reply has an empty line")
	}
	limit, text := maxReplyElements, false
	switch line[0] {
	case '*', '~', '>', '%':
	case '$', '=', '!':
		limit, text = g.maxString, true
	case '|':
		return errors.New("redis: a reply has attributes, which nobody asked for")
	default:
		g.element()
		return nil
	}
	n, err := strconv.Atoi(string(line[1:min(len(line), 20)]))
	if err != nil || n < -1 {
		return errors.New("redis: a reply announces no length")
	}
	if n > limit {
		return fmt.Errorf("redis: a reply announces a length of %d, where %d is the most", n, limit)
	}
	switch {
	case text && n >= 0:
		g.skip = n + len("\r\n")
	case n <= 0: // nil, or an array of nothing
		g.element()
	case len(g.depth) == maxReplyDepth:
		return errors.New("redis: a reply is nested too deeply")
	case line[0] == '%':
		g.depth = append(g.depth, 2*n) // keys and values
	default:
		g.depth = append(g.depth, n)
	}
	return nil
}

// element counts one that is complete, and the arrays that it completes.
func (g *guard) element() {
	for len(g.depth) > 0 {
		last := len(g.depth) - 1
		if g.depth[last]--; g.depth[last] > 0 {
			return
		}
		g.depth = g.depth[:last]
	}
}
