package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Alias is the name that servers which are started here give the model.
const Alias = "bench"

// Served is a subject that answers over HTTP.
type Served struct {
	*Target
	Server  *Server // nil: it was running before
	Version string
}

var _ Subject = (*Served)(nil)

// Info implements Subject.
func (s *Served) Info() Info {
	info := Info{Name: s.Name, Version: s.Version, URL: s.URL, Model: s.Model}
	if s.Server != nil {
		info.Command = s.Server.Argv
	}
	return info
}

// Takes implements Subject: a server takes everything.
func (s *Served) Takes(string) bool { return true }

// Run implements Subject.
func (s *Served) Run(ctx context.Context, w Workload) (Result, error) {
	r := Run(ctx, s.Target, w)
	if s.Server == nil || ctx.Err() != nil {
		return r, nil
	}
	if slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Err != "" }) {
		// Connections that break may be the first that is seen of a server's end.
		return r, s.Server.Died(deathGrace)
	}
	return r, s.Server.Died(0)
}

// Stop ends the server, if it was started here.
func (s *Served) Stop() {
	s.HTTP.CloseIdleConnections()
	if s.Server != nil {
		s.Server.Stop()
	}
}

// Warm sends one short request: page faults and lazy set-up are not what is
// measured. It also fails early where a server cannot answer at all.
func (s *Served) Warm(ctx context.Context) error {
	w, err := New("single", Options{Seed: 1 << 63, Clients: 1, Words: 20, Tokens: 8})
	if err != nil {
		return err
	}
	r, err := s.Run(ctx, w)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if errs := r.Errors(); len(errs) > 0 {
		return fmt.Errorf("%s: a first request failed: %s", s.Name, errs[0])
	}
	return nil
}

// Connect returns a server that runs already. Without a model's name, it is asked
// for one.
func Connect(ctx context.Context, name, url, model, key string) (*Served, error) {
	s := &Served{Target: NewTarget(name, url, model)}
	s.Key = key
	if model != "" {
		return s, nil
	}
	var err error
	if s.Model, err = s.FirstModel(ctx); err != nil {
		return nil, fmt.Errorf("%s: which model to ask for: %w", name, err)
	}
	return s, nil
}

// Serving is how the servers that are started here shall serve, the same for all.
type Serving struct {
	Model   string // GGUF file
	Threads int
	Slots   int
	Context int // tokens a slot

	// For Llamero alone; zero values leave its own defaults.
	Lib       string // folder of the llama.cpp libraries
	Layout    string
	TargetITL time.Duration
	Queue     int // places; they are waited in for as long as a run may take
}

// StartLlamero starts `llamero serve`.
func StartLlamero(ctx context.Context, program string, s Serving, extra ...string) (*Served, error) {
	return start(ctx, "llamero", program, "version", "/readyz", func(host, port string) []string {
		args := []string{"serve", "--listen", host + ":" + port, "--model", s.Model, "--alias", Alias,
			"--slots", strconv.Itoa(s.Slots), "--context", strconv.Itoa(s.Context), "--threads", strconv.Itoa(s.Threads)}
		if s.Lib != "" {
			args = append(args, "--lib", s.Lib)
		}
		if s.Layout != "" {
			args = append(args, "--layout", s.Layout)
		}
		if s.TargetITL > 0 {
			args = append(args, "--target-itl", s.TargetITL.String())
		}
		if s.Queue > 0 {
			args = append(args, "--queue", strconv.Itoa(s.Queue), "--queue-timeout", RunLimit.String())
		}
		return append(args, extra...)
	})
}

// StartLlamaServer starts llama.cpp's llama-server.
func StartLlamaServer(ctx context.Context, program string, s Serving, extra ...string) (*Served, error) {
	return start(ctx, "llama-server", program, "--version", "/health", func(host, port string) []string {
		return append([]string{"--host", host, "--port", port, "-m", s.Model, "--alias", Alias,
			"-t", strconv.Itoa(s.Threads), "-np", strconv.Itoa(s.Slots),
			"-c", strconv.Itoa(s.Slots * s.Context), "-fa", "on"}, extra...)
	})
}

func start(ctx context.Context, name, program, version, ready string, args func(host, port string) []string) (*Served, error) {
	server, err := StartServer(ctx, name, program, args, ready)
	if err != nil {
		return nil, err
	}
	return &Served{Target: NewTarget(name, server.URL, Alias), Server: server, Version: Version(ctx, program, version)}, nil
}

// Restarting is a subject that is started anew for each of its runs.
type Restarting struct {
	About Info
	Start func(context.Context) (*Served, error)
}

var _ Subject = (*Restarting)(nil)

// Info implements Subject.
func (r *Restarting) Info() Info { return r.About }

// Takes implements Subject.
func (r *Restarting) Takes(string) bool { return true }

// Run implements Subject.
func (r *Restarting) Run(ctx context.Context, w Workload) (Result, error) {
	s, err := r.Start(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.Stop()
	if err := s.Warm(ctx); err != nil {
		return Result{}, err
	}
	// What starting it left behind is not part of the run.
	if !waitUntil(ctx, time.Now().Add(settleTime)) {
		return Result{}, context.Cause(ctx)
	}
	result, err := s.Run(ctx, w)
	result.Target = r.About.Name
	return result, err
}
