package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
)

func newPurgeCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "purge DIGEST",
		Short: "Drop what is stored under a digest",
		Long: `Drop what is stored under a digest, and what was made of it. What an upstream
still has is fetched again when a client next asks for it.`,
		Example: `  sociable purge sha256:9f3c…`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := oci.ParseDigest(args[0])
			if err != nil {
				return usageError{error: err}
			}
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				freed, err := api.Purge(cmd.Context(), d)
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), map[string]int64{"freed": freed})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s freed\n", humanize.IBytes(uint64(freed)))
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}
