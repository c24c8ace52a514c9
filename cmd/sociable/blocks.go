package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
)

func newBlocksCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "blocks",
		Short:   "List what is kept out",
		Long:    `List the digests that purge --block keeps out, with the image and the reason.`,
		Example: `  sociable blocks --json`,
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Blocks(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]storage.BlockRow{}, list...)) // [] rather than null
				}
				t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "DIGEST\tIMAGE\tSINCE\tREASON")
				for _, row := range list {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", row.Digest, orDash(row.Name), humanize.Time(row.Created), orDash(row.Reason))
				}
				return t.Flush()
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func newUnblockCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "unblock IMAGE|DIGEST",
		Short: "Let in again what is kept out",
		Long: `Let in again what purge --block keeps out: a digest, or all of an image that was
blocked by its name. Nothing is fetched.`,
		Example: `  sociable unblock ghcr.io/acme/app@sha256:9f3c…`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				return runUnblock(cmd.Context(), cmd.OutOrStdout(), api, args[0], flags.json)
			})
		},
	}
	flags.register(cmd)
	return cmd
}
