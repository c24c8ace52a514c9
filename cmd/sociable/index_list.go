package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func newIndexListCommand() *cobra.Command {
	var flags storeFlags
	var full bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that are indexed, or about to be",
		Long: `List the images that are indexed, or about to be. A running server is asked;
where none runs, its store is read.`,
		Example: `  sociable index list
  sociable index list --json --data /var/lib/sociable`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Indexes(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]IndexInfo{}, list...)) // [] rather than null
				}
				return printIndexes(cmd.OutOrStdout(), list, full)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&full, "no-trunc", false, "print digests in full")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printIndexes(w io.Writer, list []IndexInfo, full bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REPOSITORY\tMANIFEST\tINDEX\tLAYERS INDEXED\tCREATED")
	for _, x := range list {
		manifest, index, created := shortDigest(x.Manifest), shortDigest(x.Index), "-"
		if full {
			manifest, index = x.Manifest.String(), orDash(x.Index.String())
		}
		if !x.Created.IsZero() {
			created = humanize.Time(x.Created)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d of %d\t%s\n", x.Repository, manifest, index, indexedLayers(x), len(x.Layers), created)
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
