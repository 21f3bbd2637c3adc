package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"llamero/bench"
	"llamero/engine/llama"
	"llamero/models"
	"llamero/models/tune"
)

func newTune() *cobra.Command {
	var types []string
	for _, t := range tune.DefaultTypes {
		types = append(types, string(t))
	}
	var jsonFile, plots string
	var o tune.Options
	var lib libFlags
	cmd := &cobra.Command{
		Use:   "tune [MODEL]",
		Short: "Measure which type a model's weights are best stored as on this machine",
		Long: "Quantise a model to each of --types, measure in alternating rounds how fast each file reads\n" +
			"prompts and writes answers on this machine, compare each with the source on a text (perplexity,\n" +
			"divergence), and say which is best for speed, for quality, and by default: the fastest whose\n" +
			fmt.Sprintf("perplexity is at most %.3g%% worse and whose mean KL divergence is at most %.3g nats a token.\n", 100*tune.FreeOfLoss.Perplexity, tune.FreeOfLoss.KL) +
			"Nothing else should run meanwhile. Without MODEL, the default model as it was fetched.",
		Example: "  llamero models tune\n" +
			"  llamero models tune qwen-f16.gguf --types q4_k_m,q6_k,q8_0 --rounds 5 --json tune.json --plots plots",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range types {
				t, err := llama.ParseFileType(name)
				if err != nil {
					return usageError{fmt.Errorf("--types: %w", err)}
				}
				o.Types = append(o.Types, t)
			}
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			var err error
			if o.Model, err = resolve(args, true); err != nil {
				return err
			}
			return runTune(cmd, o, lib, jsonFile, plots)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringSliceVar(&types, "types", types, "types to try, beside the source's own: "+typeNames())
	fs.IntVar(&o.Rounds, "rounds", 3, fmt.Sprintf("rounds, in which the files take turns; 1 to %d", tune.MaxRounds))
	fs.BoolVar(&o.Keep, "keep", false, "leave the files that were made in the cache directory; they are used again")
	fs.StringVar(&jsonFile, "json", "", "`file` to write everything to, as JSON")
	fs.StringVar(&plots, "plots", "", "`folder` to draw a plot into, as PNG and SVG")
	lib.add(cmd)
	return cmd
}

func runTune(cmd *cobra.Command, o tune.Options, lib libFlags, jsonFile, plots string) error {
	w, err := lib.worker()
	if err != nil {
		return err
	}
	o.Threads = lib.threads
	var file *bench.File
	if jsonFile != "" {
		if file, err = bench.NewFile(jsonFile); err != nil {
			return fmt.Errorf("the report (--json): %w", err)
		}
		defer file.Discard()
	}
	if o.Dir, err = tuneDir(o.Model); err != nil {
		return err
	}
	if !o.Keep {
		defer os.Remove(o.Dir) // if it is empty
	}
	r, err := tune.Run(cmd.Context(), w, o, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	r.Write(out)
	if o.Keep {
		fmt.Fprintf(out, "the files are in %s\n", o.Dir)
	} else if r.Default != r.Files[0].Type {
		fmt.Fprintf(out, "to make it: llamero models quantize %s OUT.gguf --type %s\n", o.Model, r.Default)
	}
	if plots != "" {
		names, err := r.Plot(plots)
		if err != nil {
			return fmt.Errorf("the plot (--plots): %w", err)
		}
		for _, name := range names {
			fmt.Fprintf(out, "written: %s\n", name)
		}
	}
	if file != nil {
		if err := file.WriteJSON(r); err != nil {
			return fmt.Errorf("the report (--json): %w", err)
		}
		fmt.Fprintf(out, "written: %s\n", jsonFile)
	}
	return nil
}

// tuneDir is a folder for what is made of one source by one version of llama.cpp.
func tuneDir(model string) (string, error) {
	cache, err := models.CacheDir()
	if err != nil {
		return "", err
	}
	digest, err := models.Digest(model)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "tune", digest[:16]+"-"+models.LlamaCPPVersion())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	return dir, nil
}
