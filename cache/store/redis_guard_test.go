package store

import (
	"bytes"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// stream is a connection from which a text is read.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

const guardLimit = 100

// through reads a text through a guard.
func through(r io.Reader) (string, error) {
	out, err := io.ReadAll(guarded(stream{Reader: r}, guardLimit))
	return string(out), err
}

func TestGuard(t *testing.T) {
	text := strings.Repeat("x", guardLimit)
	deep := strings.Repeat("*1\r\n", maxReplyDepth)
	for _, test := range []struct {
		name, in, want string // want is in the error; empty: it passes
	}{
		{"status", "+OK\r\n", ""},
		{"error", "-ERR no\r\n", ""},
		{"string", "$100\r\n" + text + "\r\n", ""},
		{"strings", strings.Repeat("$3\r\n$9\n\r\n", 3), ""}, // a header inside of a string is none
		{"empty string, nil", "$0\r\n\r\n$-1\r\n_\r\n", ""},
		{"array", "*3\r\n:1\r\n$2\r\nab\r\n*1\r\n+x\r\n:2\r\n", ""},
		{"empty arrays", "*0\r\n*-1\r\n%0\r\n:1\r\n", ""},
		{"map", "%1\r\n+k\r\n*2\r\n:1\r\n:2\r\n+next\r\n", ""},
		{"push", ">2\r\n+message\r\n$1\r\nx\r\n", ""},
		{"RESP 3 scalars", "#t\r\n,1.5\r\n(123\r\n=7\r\ntxt:abc\r\n!5\r\nERR x\r\n", ""},
		{"arrays one after another", strings.Repeat("*1\r\n*1\r\n:1\r\n", 3*maxReplyDepth), ""},
		{"as deep as may be", deep + ":1\r\n", ""},
		{"string too long", "$101\r\n", "announces a length of 101"},
		{"string of all memory", "$9223372036854775807\r\n", "announces a length"},
		{"string of more than a number holds", "$99999999999999999999999\r\n", "no length"},
		{"string of negative length", "$-2\r\n", "no length"},
		{"streamed string", "$?\r\n", "no length"},
		{"length that is no number", "*1x\r\n", "no length"},
		{"error too long", "!101\r\n", "announces a length"},
		{"too long in an array", "*2\r\n:1\r\n$101\r\n", "announces a length"},
		{"array too long", "*32769\r\n", "announces a length"},
		{"map too long", "%32769\r\n", "announces a length"},
		{"too deep", deep + "*1\r\n", "nested"},
		{"too deep behind others", deep + ":1\r\n" + strings.Repeat("*2\r\n:1\r\n", maxReplyDepth+1), "nested"},
		{"attributes", "|1\r\n+a\r\n+b\r\n+OK\r\n", "attributes"},
		{"empty line", "\r\n", "empty line"},
		{"endless line", "+" + strings.Repeat("x", maxReplyLine), "too long a line"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"at once":      strings.NewReader(test.in),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.in)),
				"in halves":    iotest.HalfReader(strings.NewReader(test.in)),
			} {
				got, err := through(r)
				switch {
				case test.want == "" && (err != nil || got != test.in):
					t.Errorf("%s: %q of %q, error %v", name, got, test.in, err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("%s: %v; %q is wanted", name, err, test.want)
				}
			}
		})
	}
	// An error stays.
	g := guarded(stream{Reader: strings.NewReader("$101\r\n" + text)}, guardLimit)
	for range 2 {
		if n, err := g.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("%d bytes, error %v", n, err)
		}
	}
}

// The client looks at idle sockets through syscall.Conn, where there is one.
func TestGuardedSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := guarded(c, 1).(syscall.Conn); !ok {
		t.Error("a guarded socket hides the socket")
	}
	if _, ok := guarded(stream{}, 1).(syscall.Conn); ok {
		t.Error("what is no socket shows one")
	}
}

// FuzzGuard compares the guard with itself on other boundaries of reads, and looks
// for a header that it let pass.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nabc\r\n:1\r\n$101\r\n"))
	f.Add([]byte("%1\r\n+k\r\n$-1\r\n$100\r\n$999"))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, err := through(bytes.NewReader(data))
		pieces, err2 := through(iotest.OneByteReader(bytes.NewReader(data)))
		if (err == nil) != (err2 == nil) || err == nil && whole != pieces {
			t.Fatalf("%q with %v, byte by byte %q with %v", whole, err, pieces, err2)
		}
		if err == nil && whole != string(data) {
			t.Fatalf("%q of %q", whole, data)
		}
		// What was refused was not seen whole.
		if err2 != nil && len(pieces) >= len(data) {
			t.Fatalf("all of %q passed, and %v", data, err2)
		}
	})
}
