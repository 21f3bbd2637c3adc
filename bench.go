package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"llamero/bench"
	"llamero/bench/raw"
	"llamero/configs"
)

// Keys of servers that run already are secrets, and no flags.
const (
	benchKeyEnv     = configs.EnvPrefix + "BENCH_KEY"
	benchPeerKeyEnv = configs.EnvPrefix + "BENCH_PEER_KEY"
)

const (
	// benchContext takes the place of a context that `serve` would leave to the model:
	// all that is compared must have the same.
	benchContext  = 2048
	benchMaxRound = 100
)

// none as a target leaves it out.
const none = "none"

// benchFlags are the flags of `llamero bench`.
type benchFlags struct {
	target, targetModel string
	peer, peerModel     string
	serverArgs, peerArg []string
	raw, compare        bool
	workloads, sweeps   []string
	rounds              int
	options             bench.Options
	json, plots         string

	settings *pflag.FlagSet // all of serve's; the command shares those that it has
}

// benchSettings are the settings of serve that are flags of bench, too.
var benchSettings = []string{"model", "lib", "backend", "layout", "slots", "context", "threads", "target-itl"}

func newBench() *cobra.Command {
	f := &benchFlags{settings: pflag.NewFlagSet("serve", pflag.ContinueOnError)}
	configs.AddFlags(f.settings)
	f.settings.Lookup("context").Usage = fmt.Sprintf("tokens a slot holds, prompt and answer; 0 is %d [%sCONTEXT]", benchContext, configs.EnvPrefix)
	f.settings.ParseErrorsAllowlist.UnknownFlags = true // a target may be another version
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server, a peer and the engine alone, on the same workloads",
		Long: "Measure servers with named workloads: this one (started with `serve` on a free port) or\n" +
			"another (--target), a peer (--peer, llama-server or any OpenAI-compatible server), and the\n" +
			"engine without scheduler and HTTP (--raw), which is the limit. All take turns in alternating\n" +
			"rounds of one run with the same seeds; ratios are round by round, with their spread.\n" +
			"Keys of servers that run already come from " + benchKeyEnv + " and " + benchPeerKeyEnv + ".\n\n" +
			"Workloads:\n" + aboutWorkloads(),
		Example: "  llamero bench --raw\n" +
			"  llamero bench --peer ./llama-server --raw --workload shared,disjoint --clients 32 --words 700 --json report.json\n" +
			"  llamero bench --raw --workload disjoint --sweep clients=1,2,4,8,16,32 --sweep words=128,256,512 --plots plots\n" +
			"  llamero bench --workload disjoint --sweep target-itl=100ms,250ms,600ms,1s\n" +
			"  llamero bench --target http://10.0.0.5:8080 --workload poisson --rate 2 --clients 100",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := f.plan(cmd)
			if err != nil {
				return err
			}
			return plan.Run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.target, "target", "", "`URL|BINARY` of the server to measure; empty is this program, "+none+" leaves it out")
	fs.StringVar(&f.targetModel, "target-model", "", "`name` of the model at a target URL; empty is the first that it lists")
	fs.StringVar(&f.peer, "peer", "", "`URL|BINARY` of a peer; a binary is llama-server's, started with the same model, threads, slots and context")
	fs.StringVar(&f.peerModel, "peer-model", "", "`name` of the model at a peer URL; empty is the first that it lists")
	fs.BoolVar(&f.raw, "raw", false, "measure the engine without scheduler and HTTP, too")
	fs.StringSliceVar(&f.workloads, "workload", nil, "workloads to run, by `name`; without, single, shared, disjoint and ragged, or for a sweep disjoint")
	fs.StringArrayVar(&f.sweeps, "sweep", nil, "run the first workload at each value of an option in place of the workloads: `NAME=VALUE,VALUE…` with a name of "+
		strings.Join(bench.SweepNames(), ", ")+"; repeatable")
	fs.IntVar(&f.rounds, "rounds", 3, fmt.Sprintf("rounds, in which the servers take turns; 1 to %d", benchMaxRound))
	fs.IntVar(&f.options.Clients, "clients", 0, fmt.Sprintf("clients at once (turns: conversations, poisson: requests); 0 is as many as slots, twice that for turns and poisson; up to %d", bench.MaxClients))
	fs.IntVar(&f.options.Words, "words", 256, fmt.Sprintf("words of a prompt; 1 to %d", bench.MaxWords))
	fs.IntVar(&f.options.Tokens, "tokens", 64, fmt.Sprintf("tokens of an answer; 1 to %d", bench.MaxTokens))
	fs.IntVar(&f.options.Turns, "turns", 4, fmt.Sprintf("turns of a conversation; 1 to %d", bench.MaxTurns))
	fs.IntVar(&f.options.System, "system-words", 0, fmt.Sprintf("words of a system prompt that all conversations of workload turns have; up to %d", bench.MaxWords))
	fs.Float64Var(&f.options.Rate, "rate", 1, fmt.Sprintf("requests a second of workload poisson; up to %d", bench.MaxRate))
	fs.Uint64Var(&f.options.Seed, "seed", 1, "seed of the prompts and of arrivals")
	fs.BoolVar(&f.compare, "compare", false, "count how many answers of target and peer are the same")
	fs.StringVar(&f.json, "json", "", "`file` to write everything to, as JSON")
	fs.StringVar(&f.plots, "plots", "", "`folder` to draw plots into, as PNG and SVG")
	fs.StringArrayVar(&f.serverArgs, "server-arg", nil, "further `flag` of serve, as --server-arg=--kv-memory=4GiB; repeatable")
	fs.StringArrayVar(&f.peerArg, "peer-arg", nil, "further `flag` of llama-server, as --peer-arg=--no-mmap; repeatable")
	for _, name := range benchSettings {
		fs.AddFlag(f.settings.Lookup(name))
	}
	_ = cmd.RegisterFlagCompletionFunc("workload", cobra.FixedCompletions(bench.Names(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("model", "gguf")
	_ = cmd.MarkFlagFilename("json", "json")
	_ = cmd.MarkFlagDirname("lib")
	_ = cmd.MarkFlagDirname("plots")
	cmd.AddCommand(newRawRun())
	return cmd
}

func aboutWorkloads() string {
	var b strings.Builder
	for _, name := range bench.Names() {
		fmt.Fprintf(&b, "  %-9s %s\n", name, bench.About(name))
	}
	return strings.TrimRight(b.String(), "\n")
}

// newRawRun is the process that --raw measures in.
func newRawRun() *cobra.Command {
	return &cobra.Command{
		Use:    "raw-run",
		Short:  "Run the engine alone; what to run is read from standard input",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			slog.SetDefault(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
			return raw.Main(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), raw.Open)
		},
	}
}
