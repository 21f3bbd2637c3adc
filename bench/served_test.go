package bench

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"llamero/bench/benchtest"
)

var someServing = Serving{Model: "model.gguf", Threads: 2, Slots: 4, Context: 512, Lib: "lib", Layout: "split", TargetITL: 100 * time.Millisecond, Queue: 80}

func TestServersAreStarted(t *testing.T) {
	tests := []struct {
		name  string
		start func(context.Context, string, Serving, ...string) (*Served, error)
		want  string
	}{
		{"llamero", StartLlamero, "serve --listen ADDR --model model.gguf --alias bench --slots 4 --context 512 --threads 2 " +
			"--lib lib --layout split --target-itl 100ms --queue 80 --queue-timeout 10m0s --log-level=warn"},
		{"llama-server", StartLlamaServer, "--host HOST --port PORT -m model.gguf --alias bench -t 2 -np 4 -c 2048 -fa on --log-level=warn"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := test.start(t.Context(), os.Args[0], someServing, "--log-level=warn")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			if err := s.Warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
			want := strings.NewReplacer("ADDR", host+":"+port, "HOST", host, "PORT", port).Replace(test.want)
			info := s.Info()
			if got := strings.Join(info.Command[1:], " "); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if info.Name != test.name || info.Version != "fake, version 1" || info.Model != Alias || !s.Takes("turns") {
				t.Errorf("info %+v", info)
			}
		})
	}
}

func TestAServerThatDiesIsAnError(t *testing.T) {
	t.Setenv(benchtest.EnvDie, "3")
	s, err := StartLlamero(t.Context(), os.Args[0], someServing)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	w := mustNew(t, "disjoint", Options{Clients: 1, Words: 1, Tokens: 1})
	for range 2 {
		if _, err := s.Run(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Run(t.Context(), w); err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("got %v, want the exit status and the end of the log", err)
	}
}

func TestRestarting(t *testing.T) {
	started := 0
	r := &Restarting{About: Info{Name: "at 100ms"}, Start: func(ctx context.Context) (*Served, error) {
		started++
		return StartLlamero(ctx, os.Args[0], someServing)
	}}
	results, err := Rounds(t.Context(), []Subject{r}, 2, func(round int) (Workload, error) {
		return New("disjoint", Options{Seed: uint64(round), Clients: 3, Words: 5, Tokens: 4})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if started != 2 || len(results[0]) != 2 || results[0][1].Target != "at 100ms" || slices.ContainsFunc(results[0], func(r Result) bool { return len(r.Errors()) > 0 }) {
		t.Errorf("started %d times: %+v", started, results)
	}
	broken := &Restarting{Start: func(ctx context.Context) (*Served, error) { return StartLlamero(ctx, "/nonexistent", someServing) }}
	if _, err := broken.Run(t.Context(), Workload{}); err == nil {
		t.Error("a program that does not exist was run")
	}
}
