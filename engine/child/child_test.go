package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// With this variable set the test binary is a child that does what its task says.
const asChild = "TEST_AS_CHILD"

type task struct {
	Say   []int
	Print string
	Exit  int
	Hang  bool
}

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	var t task
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		os.Exit(99)
	}
	for _, n := range t.Say {
		fmt.Println(n)
	}
	fmt.Fprint(os.Stderr, t.Print)
	if t.Hang {
		os.Stdout.WriteString("\n")
		time.Sleep(time.Hour) // it is killed long before
	}
	os.Exit(t.Exit)
}

func run(ctx context.Context, t *testing.T, x task) (got []int, err error) {
	t.Helper()
	t.Setenv(asChild, "1")
	err = Run(ctx, []string{os.Args[0]}, x, func(d *json.Decoder) error {
		for {
			var n int
			if err := d.Decode(&n); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			got = append(got, n)
		}
	})
	return got, err
}

func TestRun(t *testing.T) {
	got, err := run(t.Context(), t, task{Say: []int{1, 2, 3}})
	if err != nil || fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRunFails(t *testing.T) {
	_, err := run(t.Context(), t, task{Say: []int{1}, Print: strings.Repeat("x", 3*tailBytes) + "\nthe reason\n", Exit: 3})
	var exit *Exit
	if !errors.As(err, &exit) || exit.LastLine() != "the reason" || len(exit.Output) > tailBytes || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("exit: %v", err)
	}
	t.Setenv(asChild, "1")
	err = Run(t.Context(), []string{os.Args[0]}, task{Say: []int{1}}, func(d *json.Decoder) error {
		var s string
		return d.Decode(&s)
	})
	if err == nil || !strings.Contains(err.Error(), "its reply") {
		t.Errorf("reply of another kind: %v", err)
	}
	if err := Run(t.Context(), []string{t.TempDir() + "/none"}, task{}, nil); err == nil || !strings.Contains(err.Error(), "start") {
		t.Errorf("no such program: %v", err)
	}
}

// A child whose context ends is killed, and the cause is what is reported.
func TestRunInterrupted(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Setenv(asChild, "1")
	err := Run(ctx, []string{os.Args[0]}, task{Say: []int{7}, Hang: true}, func(d *json.Decoder) error {
		var n int
		err := d.Decode(&n) // it runs
		cancel(cause)
		return err
	})
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}
