package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"llamero/configs"
	"llamero/models"
)

func newLibs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "libs",
		Short: "Fetch llama.cpp's libraries",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	backend := configs.Default().Engine.Backend
	if env := os.Getenv(configs.EnvPrefix + "BACKEND"); env != "" {
		backend = env
	}
	const usage = "build to use: cpu, cuda (needs CUDA 13's runtime and cuBLAS on this machine), vulkan, metal [LLAMERO_BACKEND]"
	fetch := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch llama.cpp's libraries with npm, once",
		Long: "Fetch the pinned llama.cpp libraries for this platform with npm, check their digest\n" +
			"and unpack them into the cache directory (" + models.CacheEnv + "). What is there is not fetched again.\n" +
			"The folder is printed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := models.Fetcher{Out: cmd.ErrOrStderr()}
			dir, err := f.Libs(cmd.Context(), backend)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), dir)
			return err
		},
	}
	fetch.Flags().StringVar(&backend, "backend", backend, usage)
	path := &cobra.Command{
		Use:   "path",
		Short: "Print the folder of the fetched libraries",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := models.ResolveLibs("", backend)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), dir)
			return err
		},
	}
	path.Flags().StringVar(&backend, "backend", backend, usage)
	cmd.AddCommand(fetch, path)
	return cmd
}
