package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"llamero/bench"
)

const (
	warmGoal   = 0.1 // of the time that a prompt takes which nobody has computed
	writeLimit = time.Minute
	writePoll  = 20 * time.Millisecond
	maxMetrics = 8 << 20 // bytes of a page of metrics that are read
)

// row is a way in which a prompt's first token comes about.
type row struct {
	name   string
	over   int // the row that it is compared with; -1: none
	goal   bool
	ttft   []float64 // by round, in ms
	cached []int     // by round, of the prompt's tokens
}

// The rows of the table, in the order in which they are taken in a round.
const (
	coldRedis = iota
	again
	second
	restartedRedis
	coldFolder
	restartedFolder
)

// show7: a prompt's first token from a gateway that has not computed it, but could
// have what another process has: through Redis, or from a folder. Each round has
// prompts of its own, so that those which are cold are cold.
func show7(ctx context.Context, c *config) error {
	if c.llamero == "" {
		return errNoLlamero
	}
	program, err := exec.LookPath(c.redis)
	if err != nil {
		return fmt.Errorf("--redis-server: %w", err)
	}
	dir, err := os.MkdirTemp("", "show7-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := startRedis(ctx, program, dir)
	if err != nil {
		return err
	}
	defer r.stop()
	fmt.Printf("redis-server: %s\na prompt of %d words, %d rounds\n", bench.Version(ctx, program, "--version"), c.words, c.rounds)
	s := restarts{config: c, rows: []row{
		coldRedis:       {name: "cold, with Redis", over: -1},
		again:           {name: "again, from memory", over: coldRedis},
		second:          {name: "second gateway, through Redis", over: coldRedis, goal: true},
		restartedRedis:  {name: "restarted, through Redis", over: coldRedis, goal: true},
		coldFolder:      {name: "cold, with a folder", over: -1},
		restartedFolder: {name: "restarted, from the folder", over: coldFolder, goal: true},
	}}
	for round := range c.rounds {
		w, err := c.workload("disjoint", c.seed+uint64(round), 2)
		if err != nil {
			return err
		}
		if err := s.throughRedis(ctx, r.url, w.Clients[0][0]); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if err := s.fromFolder(ctx, filepath.Join(dir, strconv.Itoa(round)), w.Clients[1][0]); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		progress("round %d: %s", round+1, s.latest())
	}
	s.print()
	return nil
}

// templateTokens is what a chat template may put before every prompt, and thus is known
// of one that is cold.
const templateTokens = 64

// restarts takes the rounds.
type restarts struct {
	*config
	rows []row
	said bool // what is measured has been printed
}

// open starts a gateway, which is warmed by another prompt.
func (s *restarts) open(ctx context.Context, flags ...string) (*bench.Served, error) {
	if !s.said {
		s.said = true
		return startLlamero(ctx, s.config, flags...)
	}
	g, err := bench.StartLlamero(ctx, s.llamero, s.Serving, flags...)
	if err != nil {
		return nil, err
	}
	if err := g.Warm(ctx); err != nil {
		g.Stop()
		return nil, err
	}
	return g, nil
}

// take asks, and notes the time to the first token.
func (s *restarts) take(ctx context.Context, at int, g *bench.Served, r bench.Request) error {
	a := g.Do(ctx, time.Now(), r, nil)
	to := &s.rows[at]
	switch {
	case a.Err != "":
		return fmt.Errorf("%s: %s", to.name, a.Err)
	case len(a.Chunks) == 0:
		return fmt.Errorf("%s: an answer without text", to.name)
	case to.over < 0 && a.Cached > templateTokens:
		return fmt.Errorf("%s: %d tokens of the prompt were known", to.name, a.Cached)
	}
	to.ttft = append(to.ttft, (a.Chunks[0]-a.Start).Seconds()*1000)
	to.cached = append(to.cached, a.Cached)
	return nil
}

// throughRedis is the part of a round in which gateways share a Redis.
func (s *restarts) throughRedis(ctx context.Context, url string, r bench.Request) error {
	first, err := s.open(ctx, "--redis", url)
	if err != nil {
		return err
	}
	defer first.Stop()
	for _, at := range []int{coldRedis, again} {
		if err := s.take(ctx, at, first, r); err != nil {
			return err
		}
	}
	if err := written(ctx, first); err != nil {
		return err
	}
	if err := s.fresh(ctx, second, r, "--redis", url); err != nil {
		return err
	}
	first.Stop()
	return s.fresh(ctx, restartedRedis, r, "--redis", url)
}

// fromFolder is the part in which a gateway leaves its memory to the next.
func (s *restarts) fromFolder(ctx context.Context, dir string, r bench.Request) error {
	for _, at := range []int{coldFolder, restartedFolder} {
		if err := s.fresh(ctx, at, r, "--cache-dir", dir); err != nil {
			return err
		}
	}
	return nil
}

// fresh asks a gateway that is started for that.
func (s *restarts) fresh(ctx context.Context, at int, r bench.Request, flags ...string) error {
	g, err := s.open(ctx, flags...)
	if err != nil {
		return err
	}
	defer g.Stop()
	return s.take(ctx, at, g, r)
}

// latest is the last round in a line.
func (s *restarts) latest() string {
	var parts []string
	for _, w := range s.rows {
		parts = append(parts, fmt.Sprintf("%s %.1f ms", w.name, w.ttft[len(w.ttft)-1]))
	}
	return strings.Join(parts, ", ")
}

func (s *restarts) print() {
	fmt.Println("\nTime to the first token, by what is known of the prompt")
	t := bench.NewTable("gateway", "TTFT ms", "tokens cached", "over cold")
	for _, w := range s.rows {
		ratio := ""
		if w.over >= 0 {
			ratio = bench.Ratios(w.ttft, s.rows[w.over].ttft).String()
		}
		t.Row(w.name, bench.NewSpread(w.ttft).String(), fmt.Sprintf("%d…%d", slices.Min(w.cached), slices.Max(w.cached)), ratio)
	}
	t.Write(os.Stdout)
	for _, w := range s.rows {
		if w.goal {
			verdict(w.name+", over cold", bench.Ratios(w.ttft, s.rows[w.over].ttft), warmGoal)
		}
	}
}

// written waits until all pages that a gateway has are in Redis: written there, or
// found, as those of the prompt that warms it may be.
func written(ctx context.Context, g *bench.Served) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	poll := time.NewTicker(writePoll)
	defer poll.Stop()
	for {
		used, err := metric(ctx, g, "llamero_cache_pages", `state="used"`)
		if err != nil {
			return err
		}
		put, err := metric(ctx, g, "llamero_redis_pages_total", `op="put"`)
		if err != nil {
			return err
		}
		got, err := metric(ctx, g, "llamero_redis_pages_total", `op="get"`)
		if err != nil {
			return err
		}
		if used > 0 && put+got >= used {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w with %v of %v pages in Redis", context.Cause(ctx), put+got, used)
		}
	}
}

// metric reads a value from a server's metrics.
func metric(ctx context.Context, g *bench.Served, name, label string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := g.HTTP.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(io.LimitReader(resp.Body, maxMetrics)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") || !strings.Contains(line, label) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		return strconv.ParseFloat(value, 64)
	}
	return 0, fmt.Errorf("%s has no %s with %s", req.URL, name, label)
}
