package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"llamero/bench"
)

// alias is the name that both servers give the model.
const alias = "bench"

// subject is a running server and the client that measures it.
type subject struct {
	*bench.Target
	server *bench.Server
}

func (s *subject) stop() {
	s.HTTP.CloseIdleConnections()
	s.server.Stop()
}

// startAll starts Llamero and the peer, as far as the flags name them.
func startAll(ctx context.Context, c *config) (subjects []*subject, stop func(), err error) {
	stop = func() {
		for _, s := range subjects {
			s.stop()
		}
	}
	for _, start := range []func(context.Context, *config) (*subject, error){startLlamero, startPeer} {
		s, err := start(ctx, c)
		if err != nil {
			stop()
			return nil, nil, err
		}
		if s != nil {
			subjects = append(subjects, s)
		}
	}
	return subjects, stop, nil
}

// startLlamero returns nil if the flags name no binary.
func startLlamero(ctx context.Context, c *config) (*subject, error) {
	if c.llamero == "" {
		return nil, nil
	}
	return start(ctx, "llamero", c.llamero, "version", "/readyz", func(host, port string) []string {
		args := []string{"serve", "--listen", host + ":" + port, "--model", c.model, "--alias", alias,
			"--slots", strconv.Itoa(c.slots), "--context", strconv.Itoa(c.context),
			"--threads", strconv.Itoa(c.threads), "--layout", c.layout}
		if c.lib != "" {
			args = append(args, "--lib", c.lib)
		}
		if c.targetITL > 0 {
			args = append(args, "--target-itl", c.targetITL.String())
		}
		if c.queue > 0 {
			args = append(args, "--queue", strconv.Itoa(c.queue))
		}
		return args
	})
}

// startPeer returns nil if the flags name no binary.
func startPeer(ctx context.Context, c *config) (*subject, error) {
	if c.peer == "" {
		return nil, nil
	}
	return start(ctx, "llama-server", c.peer, "--version", "/health", func(host, port string) []string {
		return []string{"--host", host, "--port", port, "-m", c.model, "--alias", alias,
			"-t", strconv.Itoa(c.threads), "-np", strconv.Itoa(c.slots),
			"-c", strconv.Itoa(c.slots * c.context), "-fa", "on"}
	})
}

func start(ctx context.Context, name, program, version, ready string, args func(host, port string) []string) (*subject, error) {
	server, err := bench.StartServer(ctx, name, program, args, ready)
	if err != nil {
		return nil, err
	}
	fmt.Printf("%s: %s\n  %s\n", name, bench.Version(ctx, program, version), strings.Join(server.Argv, " "))
	return &subject{Target: bench.NewTarget(name, server.URL, alias), server: server}, nil
}

// warm sends one short request: page faults and lazy set-up are not what is
// measured. It also fails early where a server cannot answer at all.
func warm(ctx context.Context, subjects []*subject) error {
	for _, s := range subjects {
		w, err := bench.New("single", bench.Options{Seed: 1 << 32, Clients: 1, Words: 20, Tokens: 8})
		if err != nil {
			return err
		}
		if errs := bench.Run(ctx, s.Target, w).Errors(); len(errs) > 0 {
			return fmt.Errorf("%s: a first request failed: %s", s.Name, errs[0])
		}
	}
	return nil
}

// printErrors shows the first few failures of a run; it never hides that there
// were any.
func printErrors(r bench.Result) {
	errs := r.Errors()
	for i, e := range errs {
		if i == 3 {
			fmt.Printf("  … and %d more errors\n", len(errs)-i)
			return
		}
		fmt.Printf("  error: %s\n", e)
	}
}

// newTable aligns tab-separated rows, once they are flushed, on standard output.
func newTable(head string) *tabwriter.Writer {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	return t
}

// progress goes to standard error: what is printed at the end is the table.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

func sec(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// settle lets a server finish what an earlier round left running, so that a
// round starts on an idle machine.
func settle(ctx context.Context) {
	runtime.GC() // the client's own garbage does not fall into the next round
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
