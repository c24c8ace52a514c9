package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRefreshCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "refresh IMAGE:TAG",
		Short: "Have the next request for a tag ask its upstream",
		Long: `Have the next request for a tag ask its upstream where it leads, although it
was checked a moment ago (tag_ttl). Nothing is fetched before that.`,
		Example: `  sociable refresh redis:7`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				tag, err := api.Refresh(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), tag)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, so far %s\n", tag.Reference, tag.Digest)
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}
