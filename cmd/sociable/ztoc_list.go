package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func newZTOCListCommand() *cobra.Command {
	var flags placeFlags
	var image, ztocDigest string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "list [LAYOUT]",
		Aliases: []string{"ls"},
		Short:   "List the zTOCs in a store or an OCI layout",
		Long: `List the zTOCs in a store, or in an OCI layout. A running server is asked; where
none runs, its store is read.`,
		Example: `  sociable ztoc list
  sociable ztoc list --image-ref redis:7 --quiet
  sociable ztoc list redis-soci`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				flags.layout = args[0]
			}
			from, err := flags.place()
			if err != nil {
				return err
			}
			list, err := from.ztocs(cmd.Context(), image)
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(z StoredZTOC) bool { return !strings.HasPrefix(z.Digest.String(), ztocDigest) })
			switch {
			case flags.json:
				return printJSON(cmd.OutOrStdout(), append([]StoredZTOC{}, list...)) // [] rather than null
			case quiet:
				for _, z := range list {
					fmt.Fprintln(cmd.OutOrStdout(), z.Digest)
				}
				return nil
			}
			return printZTOCs(cmd.OutOrStdout(), list)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&ztocDigest, "ztoc-digest", "", "only zTOCs whose `DIGEST` begins like this")
	cmd.Flags().StringVar(&image, "image-ref", "", "only those of one `IMAGE`")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print digests alone")
	return cmd
}

// StoredZTOC is a zTOC in a store or a layout.
type StoredZTOC struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	LayerDigest digest.Digest `json:"layer_digest"`
}

// printZTOCs prints the columns of `soci ztoc list`.
func printZTOCs(w io.Writer, list []StoredZTOC) error {
	t := tabwriter.NewWriter(w, 8, 8, 4, ' ', 0)
	fmt.Fprint(t, "DIGEST\tSIZE\tLAYER DIGEST\t\n")
	for _, z := range list {
		fmt.Fprintf(t, "%s\t%d\t%s\t\n", z.Digest, z.Size, z.LayerDigest)
	}
	return t.Flush()
}
