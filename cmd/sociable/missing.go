package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

func newMissingCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "missing",
		Short: "List what clients asked for and did not get, offline",
		Long: `List the images that clients asked for while their upstream is offline by
configuration, and that are not here: a list as warm and export take it, the most
wanted first. What is a comment there, a blob, belongs to an image that is here in
part. An image that is imported or warmed is taken off the list.`,
		Example: `  sociable missing > images.txt     # carry it to where there is a network, then
  sociable export -f images.txt -o bundle.tar`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Missing(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]storage.MissingRow{}, list...)) // [] rather than null
				}
				return printMissing(cmd.OutOrStdout(), list)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func printMissing(w io.Writer, list []storage.MissingRow) error {
	slices.SortStableFunc(list, func(a, b storage.MissingRow) int { return int(min(1, max(-1, b.Asked-a.Asked))) })
	for _, row := range list {
		name := row.Repo.String() + ":" + row.Reference
		if strings.Contains(row.Reference, ":") {
			name = row.Repo.String() + "@" + row.Reference
		}
		if row.Blob {
			name = "# blob " + name
		}
		if _, err := fmt.Fprintf(w, "%s # asked for %d times, last %s\n", name, row.Asked, humanize.Time(row.Last)); err != nil {
			return err
		}
	}
	return nil
}

func (o *offline) Missing(ctx context.Context) ([]storage.MissingRow, error) {
	return web.Missing(ctx, o.store)
}
