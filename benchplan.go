package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"llamero/bench"
	"llamero/bench/raw"
	"llamero/bench/suite"
	"llamero/configs"
	"llamero/engine/llama"
	"llamero/models"
)

// plan makes of the flags what is to be done. All that is wrong with them is a usage
// error that names each; files that are missing are not.
func (f *benchFlags) plan(cmd *cobra.Command) (*suite.Plan, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	target := f.target
	switch target {
	case "":
		target = self
	case none:
		target = ""
	}
	p := &suite.Plan{
		Command: append([]string{cmd.CommandPath()}, commandLine(cmd.Flags())...),
		Target:  suite.Endpoint{At: target, Args: f.serverArgs, Model: f.targetModel, Key: os.Getenv(benchKeyEnv)},
		Peer:    suite.Endpoint{At: f.peer, Args: f.peerArg, Model: f.peerModel, Key: os.Getenv(benchPeerKeyEnv)},
		Rounds:  f.rounds, Compare: f.compare, JSON: f.json, Plots: f.plots,
	}
	var problems problems
	if err := f.settings.Parse(f.serverArgs); err != nil {
		problems.add("--server-arg: %w", err)
	}
	c, err := configs.Load(configs.Sources{File: os.Getenv(configs.EnvPrefix + "CONFIG"), Getenv: os.LookupEnv, Flags: f.settings})
	problems.join(err)
	if c.Engine.Context == 0 {
		c.Engine.Context = benchContext
	}
	f.work(p, c, &problems)
	if err := problems.err(); err != nil {
		return nil, usageError{err}
	}
	return p, f.files(p, c, self)
}

// work fills in the workloads and sweeps.
func (f *benchFlags) work(p *suite.Plan, c configs.Config, problems *problems) {
	if f.rounds < 1 || f.rounds > benchMaxRound {
		problems.add("--rounds: %d is not in 1…%d", f.rounds, benchMaxRound)
	}
	switch {
	case len(f.workloads) > 0:
	case len(f.sweeps) > 0:
		f.workloads = []string{"disjoint"}
	default:
		f.workloads = []string{"single", "shared", "disjoint", "ragged"}
	}
	if f.compare && (f.peer == "" || p.Target.At == "") {
		problems.add("--compare: a target and a --peer are needed")
	}
	if f.targetModel != "" && !suite.IsURL(p.Target.At) {
		problems.add("--target-model: only a target URL has a model of its own")
	}
	if f.peerModel != "" && !suite.IsURL(p.Peer.At) {
		problems.add("--peer-model: only a peer URL has a model of its own")
	}
	for _, name := range f.workloads {
		o := f.options
		if o.Clients == 0 {
			if o.Clients = c.Engine.Slots; name == "turns" || name == "poisson" {
				o.Clients *= 2
			}
		}
		if name == "single" {
			o.Clients = 1
		}
		p.Workloads = append(p.Workloads, suite.Workload{Name: name, Options: o})
		problems.flags(o.Check(name))
	}
	for _, text := range f.sweeps {
		s, err := bench.ParseSweep(text)
		if err == nil {
			err = s.Check(p.Workloads[0].Name, p.Workloads[0].Options)
		}
		if err != nil {
			problems.add("--sweep: %w", err)
			continue
		}
		if s.Name == bench.SweepTargetITL && (p.Target.At == "" || suite.IsURL(p.Target.At)) {
			problems.add("--sweep: %s starts the target anew for each value, and needs a program", s.Name)
		}
		p.Sweeps = append(p.Sweeps, s)
	}
	if err := p.Check(); err != nil && !f.raw {
		problems.add("--target: %w", err)
	}
}

// files finds what servers and engine need, as far as any is started here.
func (f *benchFlags) files(p *suite.Plan, c configs.Config, self string) error {
	own := p.Target.At != "" && !suite.IsURL(p.Target.At)
	fill := slices.ContainsFunc(p.Sweeps, func(s bench.SweepSpec) bool { return s.Name == bench.SweepFill })
	native := own || f.raw || fill
	if !native && (p.Peer.At == "" || suite.IsURL(p.Peer.At)) {
		return nil
	}
	var err error
	p.Serving = bench.Serving{Threads: c.Engine.Threads, Slots: c.Engine.Slots, Context: c.Engine.Context,
		Layout: c.Engine.Layout, TargetITL: c.Scheduler.TargetITL}
	if p.Serving.Model, err = models.Resolve(c.Model.Path); err != nil {
		return err
	}
	if most := f.mostClients(p); most > c.Engine.Slots {
		// Peers have no bound on what may wait.
		p.Serving.Queue = max(most, c.Scheduler.Queue)
	}
	if !native {
		return nil
	}
	if p.Serving.Lib, err = models.ResolveLibs(c.Engine.Lib, c.Engine.Backend); err != nil {
		return err
	}
	var source string
	if c.Model.TemplateFile != "" {
		if source, err = readTemplate(c.Model.TemplateFile); err != nil {
			return err
		}
	}
	child := &raw.Child{
		Argv: []string{self, "bench", "raw-run"},
		Engine: llama.Options{Lib: p.Serving.Lib, Model: p.Serving.Model, Layout: layout(c.Engine.Layout),
			Slots: c.Engine.Slots, SlotTokens: c.Engine.Context, KVBudget: int64(c.Engine.KVMemory),
			GPULayers: c.Engine.GPULayers, TypeK: c.Engine.TypeK, TypeV: c.Engine.TypeV,
			Threads: c.Engine.Threads, PassTokens: c.Engine.BatchTokens},
		Template: source,
		Version: fmt.Sprintf("llama.cpp %s, layout %s, %d slots of %d tokens, %d threads",
			models.LlamaCPPVersion(), c.Engine.Layout, c.Engine.Slots, c.Engine.Context, c.Engine.Threads),
	}
	if f.raw {
		p.Raw = child
	}
	if fill {
		p.Fill = child
	}
	return nil
}

// mostClients is how many requests may be at a server at once.
func (f *benchFlags) mostClients(p *suite.Plan) int {
	most := 0
	for _, w := range p.Workloads {
		most = max(most, w.Options.Clients)
	}
	for _, s := range p.Sweeps {
		for i := range s.Values {
			most = max(most, s.Apply(p.Workloads[0].Options, i).Clients)
		}
	}
	return most
}

// commandLine is what was typed, flag by flag.
func commandLine(fs *pflag.FlagSet) []string {
	var args []string
	fs.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
			return
		}
		args = append(args, "--"+f.Name+"="+f.Value.String())
	})
	return args
}

// problems collects what is wrong with flags, each once.
type problems []string

func (p *problems) add(format string, args ...any) {
	p.join(fmt.Errorf(format, args...))
}

// flags adds errors that begin with a flag's name.
func (p *problems) flags(err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		p.join(errors.New("--" + line))
	}
}

func (p *problems) join(err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\n"); !slices.Contains(*p, line) {
			*p = append(*p, line)
		}
	}
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return errors.New(strings.Join(p, "\n"))
}
