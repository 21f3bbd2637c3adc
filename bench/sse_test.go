package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEvents(t *testing.T) {
	tests := []struct {
		name, stream string
		want         []string
		end          error
	}{
		{"empty", "", nil, io.EOF},
		{"two events", "data: a\n\ndata: b\n\n", []string{"a", "b"}, io.EOF},
		{"CRLF", "data: a\r\n\r\n", []string{"a"}, io.EOF},
		{"no space after the colon", "data:a\n\n", []string{"a"}, io.EOF},
		{"only one space is taken off", "data:  a\n\n", []string{" a"}, io.EOF},
		{"several lines make one event", "data: a\ndata: b\n\n", []string{"a\nb"}, io.EOF},
		{"empty data is an event", "data:\n\n", []string{""}, io.EOF},
		{"comments and other fields", ": ping\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", []string{"a"}, io.EOF},
		{"a comment alone is no event", ": ping\n\ndata: a\n\n", []string{"a"}, io.EOF},
		{"cut within an event", "data: a\n\ndata: b\n", []string{"a"}, io.ErrUnexpectedEOF},
		{"a line too long", "data: " + strings.Repeat("x", maxLine) + "\n\n", nil, bufio.ErrTooLong},
		{"an event too long", strings.Repeat("data: "+strings.Repeat("x", maxLine/2)+"\n", 3) + "\n", nil, bufio.ErrTooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			check := func(r io.Reader) {
				t.Helper()
				got, err := readAll(newEvents(r))
				if !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
				if !errors.Is(err, test.end) {
					t.Errorf("ended with %v, want %v", err, test.end)
				}
			}
			check(strings.NewReader(test.stream))
			if len(test.stream) < 1024 {
				check(iotest.OneByteReader(strings.NewReader(test.stream)))
			}
		})
	}
}

func TestEventsPassOnReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := readAll(newEvents(iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func readAll(e *events) (all []string, err error) {
	for {
		data, err := e.next()
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
}

// FuzzEvents writes data as events and reads it back, then reads the data
// itself, which must end whatever it is.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("a\nb"), []byte("{}"))
	f.Add([]byte(": x"), []byte("data: \n\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var stream bytes.Buffer
		var want []string
		for _, data := range [][]byte{a, b} {
			data = bytes.ReplaceAll(data, []byte("\r"), nil)
			for line := range bytes.SplitSeq(data, []byte("\n")) {
				stream.WriteString("data: ")
				stream.Write(line)
				stream.WriteByte('\n')
			}
			stream.WriteByte('\n')
			want = append(want, string(data))
		}
		got, err := readAll(newEvents(&stream))
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		if _, err := readAll(newEvents(bytes.NewReader(a))); err == nil {
			t.Error("no end")
		}
	})
}
