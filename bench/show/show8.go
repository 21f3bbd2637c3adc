package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"llamero/bench"
)

// show8: what a draft model gives one stream, by the kind of prompt, here and in
// llama-server. Each prompt goes to all servers in turn.
func show8(ctx context.Context, c *config) error {
	if c.llamero == "" || c.draft == "" || c.prompts == "" {
		return errors.New("--llamero, --draft and --prompts are needed")
	}
	prompts, err := readPrompts(c.prompts, c.each)
	if err != nil {
		return err
	}
	d := drafts{config: c, rows: map[string]map[string][]answered{}}
	defer func() {
		for _, s := range d.servers {
			s.Stop()
		}
	}()
	for _, start := range []func() error{
		func() error { return d.add(bench.StartLlamero(ctx, c.llamero, c.Serving, "--spec", "off")) },
		func() error {
			return d.add(bench.StartLlamero(ctx, c.llamero, c.Serving, "--spec", "draft", "--draft-model", c.draft))
		},
		func() error { return d.add(bench.StartLlamaServer(ctx, c.peer, c.Serving)) },
		func() error {
			return d.add(bench.StartLlamaServer(ctx, c.peer, c.Serving, "--spec-type", "draft-simple", "-md", c.draft))
		},
	} {
		if len(d.servers) == 2 && c.peer == "" {
			break
		}
		if err := start(); err != nil {
			return err
		}
		s := d.servers[len(d.servers)-1]
		info := s.Info()
		fmt.Printf("%s: %s\n  %s\n", info.Name, info.Version, strings.Join(info.Command, " "))
		if err := s.Warm(ctx); err != nil {
			return err
		}
	}
	for round := range c.rounds {
		for i, p := range prompts {
			if err := d.take(ctx, round+i, p); err != nil {
				return fmt.Errorf("round %d, prompt %d: %w", round+1, i+1, err)
			}
		}
		progress("round %d of %d", round+1, c.rounds)
	}
	d.print()
	return nil
}

// prompt is a line of --prompts: what models/distill's generate writes has more.
type prompt struct {
	Domain   string          `json:"domain"`
	Messages []bench.Message `json:"messages"`
}

const maxPromptLine = 1 << 20 // bytes

// readPrompts reads so many prompts of each domain, in the order of the domains.
func readPrompts(name string, each int) ([]prompt, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--prompts: %w", err)
	}
	defer f.Close()
	var out []prompt
	count := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxPromptLine)
	for n := 1; lines.Scan(); n++ {
		var p prompt
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("--prompts: %s:%d: %w", name, n, err)
		}
		if p.Domain == "" || len(p.Messages) == 0 {
			return nil, fmt.Errorf("--prompts: %s:%d: a domain and messages are needed", name, n)
		}
		if count[p.Domain]++; count[p.Domain] <= each {
			out = append(out, p)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--prompts: %s: %w", name, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("--prompts: %s has none", name)
	}
	slices.SortStableFunc(out, func(a, b prompt) int { return strings.Compare(a.Domain, b.Domain) })
	return out, nil
}

// The servers, in the order in which they are started.
const (
	plainLlamero = iota
	draftLlamero
	plainPeer
	draftPeer
)

// answered is what came of a prompt at each server.
type answered struct {
	rate [4]float64 // tokens a second behind the first
	same bool       // with a draft and without, here
	// Tokens that were drafted here, and that were right.
	drafted, right float64
}

type drafts struct {
	*config
	servers []*bench.Served
	rows    map[string]map[string][]answered // by domain and prompt, one a round
}

func (d *drafts) add(s *bench.Served, err error) error {
	if err == nil {
		d.servers = append(d.servers, s)
	}
	return err
}

// take sends a prompt to all servers, another one first each time.
func (d *drafts) take(ctx context.Context, first int, p prompt) error {
	r := bench.Request{Messages: p.Messages, MaxTokens: d.tokens}
	var a answered
	texts := make([]string, len(d.servers))
	before, err := d.counts(ctx)
	if err != nil {
		return err
	}
	for i := range d.servers {
		at := (first + i) % len(d.servers)
		s := d.servers[at]
		got := s.Do(ctx, time.Now(), r, nil)
		if got.Err != "" {
			return fmt.Errorf("%s: %s", s.Name, got.Err)
		}
		if len(got.Chunks) < 2 {
			return fmt.Errorf("%s: an answer of %d chunks", s.Name, len(got.Chunks))
		}
		took := got.Chunks[len(got.Chunks)-1] - got.Chunks[0]
		a.rate[at], texts[at] = float64(got.Tokens-1)/took.Seconds(), got.Text
	}
	after, err := d.counts(ctx)
	if err != nil {
		return err
	}
	a.right, a.drafted = after[0]-before[0], after[0]-before[0]+after[1]-before[1]
	a.same = texts[plainLlamero] == texts[draftLlamero]
	key := fmt.Sprint(p.Messages)
	if d.rows[p.Domain] == nil {
		d.rows[p.Domain] = map[string][]answered{}
	}
	d.rows[p.Domain][key] = append(d.rows[p.Domain][key], a)
	return nil
}

// counts are the tokens that were drafted so far and right, and those that were wrong.
func (d *drafts) counts(ctx context.Context) (n [2]float64, err error) {
	for i, right := range []string{`right="true"`, `right="false"`} {
		if n[i], err = metric(ctx, d.servers[draftLlamero], "llamero_draft_tokens_total", right); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (d *drafts) print() {
	fmt.Printf("\nTokens a second behind the first, one stream, %d tokens, %d prompts a domain, %d rounds: with a draft over without\n", d.tokens, d.each, d.rounds)
	head := []string{"domain", "drafted", "right", "tok/s without", "llamero", "identical"}
	if d.peer != "" {
		head = append(head, "llama-server without", "llama-server")
	}
	t := bench.NewTable(head...)
	all := map[string][]answered{}
	var domains []string
	for domain, prompts := range d.rows {
		domains = append(domains, domain)
		for key, list := range prompts {
			all[domain+key] = list
		}
	}
	slices.Sort(domains)
	for _, domain := range domains {
		t.Row(d.row(domain, d.rows[domain])...)
	}
	t.Row(d.row("all", all)...)
	t.Write(os.Stdout)
}

func (d *drafts) row(name string, prompts map[string][]answered) []string {
	var rates [4][]float64
	var drafted, right float64
	same, n := 0, 0
	for _, list := range prompts {
		for _, a := range list {
			for i := range d.servers {
				rates[i] = append(rates[i], a.rate[i])
			}
			drafted += a.drafted
			right += a.right
			if n++; a.same {
				same++
			}
		}
	}
	share := "–"
	if drafted > 0 {
		share = fmt.Sprintf("%.2f", right/drafted)
	}
	row := []string{name, fmt.Sprintf("%.0f", drafted), share, bench.NewSpread(rates[plainLlamero]).String(),
		bench.Ratios(rates[draftLlamero], rates[plainLlamero]).String(), fmt.Sprintf("%d of %d", same, n)}
	if d.peer != "" {
		row = append(row, bench.NewSpread(rates[plainPeer]).String(), bench.Ratios(rates[draftPeer], rates[plainPeer]).String())
	}
	return row
}
