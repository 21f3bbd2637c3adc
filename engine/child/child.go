package child

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// maxReply bounds what a child may answer, in bytes.
	maxReply = 1 << 30
	// waitDelay is how long a child's open pipes are waited for once it has ended.
	waitDelay = 5 * time.Second
)

// Exit is a child that ended in another way than by finishing its task.
type Exit struct {
	Argv   []string
	Err    error  // how it ended
	Output string // the end of what it printed to standard error
}

func (e *Exit) Error() string {
	return fmt.Sprintf("%s: %v; its last output:\n%s", strings.Join(e.Argv, " "), e.Err, e.Output)
}

func (e *Exit) Unwrap() error { return e.Err }

// LastLine is the last line that the child printed, "" if it printed none.
func (e *Exit) LastLine() string {
	text := strings.TrimSpace(e.Output)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Run starts argv, gives it the task and lets read take what it answers. The error
// is the context's cause if that has ended, *Exit if the child failed, else read's.
func Run(ctx context.Context, argv []string, task any, read func(*json.Decoder) error) error {
	in, err := json.Marshal(task)
	if err != nil {
		return fmt.Errorf("the task: %w", err)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	// On a failed assertion ggml would start a debugger on itself, and wait for it.
	cmd.Env = append(os.Environ(), "GGML_NO_BACKTRACE=1")
	cmd.WaitDelay = waitDelay
	var stderr Tail
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	readErr := read(json.NewDecoder(io.LimitReader(stdout, maxReply)))
	_, _ = io.Copy(io.Discard, stdout) // Wait must not come before the pipe's end
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &Exit{Argv: argv, Err: err, Output: stderr.String()}
	case readErr != nil:
		return fmt.Errorf("%s: its reply: %w", strings.Join(argv, " "), readErr)
	}
	return nil
}

// Tail keeps the end of what is written to it. The zero value is ready.
type Tail struct{ buf []byte }

const tailBytes = 2048

func (t *Tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String is what was kept, as valid UTF-8 and without space around it.
func (t *Tail) String() string {
	return strings.ToValidUTF8(string(bytes.TrimSpace(t.buf)), "")
}
