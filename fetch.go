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

func newModels() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Fetch and find models",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var verify bool
	fetch := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch the default model with pip, once",
		Long: "Fetch the default model, " + models.DefaultName() + ", with pip, check its digest and unpack it\n" +
			"into the cache directory (" + models.CacheEnv + "). What is there is not fetched again.\n" +
			"The file's path is printed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := models.Fetcher{Out: cmd.ErrOrStderr(), Verify: verify}
			path, err := f.Model(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
	fetch.Flags().BoolVar(&verify, "verify", false, "check the digest of a file that is there, and fetch it again if it differs")
	path := &cobra.Command{
		Use:   "path [MODEL]",
		Short: "Print the path of a model file, once it has been seen to be a whole GGUF",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := models.Default
			if len(args) > 0 {
				name = args[0]
			}
			file, err := models.Resolve(name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), file)
			return err
		},
	}
	cmd.AddCommand(fetch, path)
	return cmd
}
