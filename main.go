// Command llamero serves GGUF language models over an OpenAI-compatible API.
//
// This package is the command line and the one place where the parts are wired
// together: main.go holds the commands, fetch.go, models.go and tune.go those that
// bring, make and measure files, serve.go the gateway, bench.go what measures it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"llamero/configs"
	"llamero/models"
)

// Exit codes.
const (
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line or configuration is wrong
)

func main() {
	// The first SIGINT or SIGTERM ends the context, once the signals have been given back
	// to the system: whoever has seen it end can count on the second one, which ends the
	// process at once.
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan os.Signal, 1)
	signal.Notify(first, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-first
		signal.Stop(first)
		cancel()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError marks an error of the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// One problem a line, each saying whose it is.
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "llamero: %s\n", strings.TrimRight(line, "\n"))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "llamero",
		Short: "Serve GGUF language models over an OpenAI-compatible API",
		Long: "Llamero serves GGUF language models over an OpenAI-compatible streaming API,\n" +
			"many clients sharing one llama.cpp engine by continuous batching.",
		Example:       "  llamero libs fetch && llamero models fetch && llamero serve",
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.AddCommand(newServe(), newEngineWorker(), newBench(), newLibs(), newModels(), newVersion())
	return root
}

// usageArgs makes a wrong argument a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

func newServe() *cobra.Command {
	var file string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a model",
		Long: "Serve a model over HTTP. Settings come from flags, then the environment, then a\n" +
			"YAML file, then defaults for this machine; each flag names its variable in brackets.\n" +
			"API keys come from " + apiKeysEnv() + " (name:secret,name:secret) or a file, never from a flag.",
		Example: "  llamero serve\n" +
			"  llamero serve --model qwen.gguf --alias qwen --slots 8 --context 8192\n" +
			"  llamero serve --config configs/laptop.yaml --print-config",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configs.Load(configs.Sources{File: file, Getenv: os.LookupEnv, Flags: cmd.Flags()})
			if err != nil {
				return usageError{err}
			}
			if printConfig {
				text, err := c.YAML()
				if err != nil {
					return err
				}
				_, err = io.WriteString(cmd.OutOrStdout(), text)
				return err
			}
			return serve(cmd.Context(), c, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false // the table's order groups what belongs together
	cmd.Flags().StringVar(&file, "config", os.Getenv(configs.EnvPrefix+"CONFIG"), "YAML file of settings ["+configs.EnvPrefix+"CONFIG]")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the settings in effect as YAML, without secrets, and exit")
	configs.AddFlags(cmd.Flags())
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagFilename("model", "gguf")
	_ = cmd.MarkFlagDirname("lib")
	for _, f := range configs.Fields() {
		if len(f.Enum) > 0 {
			_ = cmd.RegisterFlagCompletionFunc(f.Flag, cobra.FixedCompletions(f.Enum, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	return cmd
}

func apiKeysEnv() string { return configs.EnvPrefix + "API_KEYS" }

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "llamero %s (llama.cpp %s, %s, %s/%s)\n",
				version(), models.LlamaCPPVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version is what the Go toolchain stamped into the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
