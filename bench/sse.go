package bench

import (
	"bufio"
	"bytes"
	"io"
)

// maxLine is the longest line of a stream that is read.
const maxLine = 1 << 20

// events reads the data of server-sent events. Comments and all fields but data
// are passed over.
type events struct {
	lines *bufio.Scanner
	data  []byte
}

func newEvents(r io.Reader) *events {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 16<<10), maxLine)
	return &events{lines: s}
}

// next returns the data of the next event, valid until the call after. It
// returns io.EOF where the stream ends between events, io.ErrUnexpectedEOF where
// it ends within one.
func (e *events) next() ([]byte, error) {
	e.data = e.data[:0]
	pending := false
	for e.lines.Scan() {
		line := e.lines.Bytes() // Scanner has taken \r\n or \n off
		if len(line) == 0 {
			if pending {
				return e.data, nil
			}
			continue
		}
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		value, _ = bytes.CutPrefix(value, []byte(" "))
		if len(e.data)+len(value) > maxLine {
			return nil, bufio.ErrTooLong
		}
		if pending {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, value...)
		pending = true
	}
	if err := e.lines.Err(); err != nil {
		return nil, err
	}
	if pending {
		return nil, io.ErrUnexpectedEOF
	}
	return nil, io.EOF
}
