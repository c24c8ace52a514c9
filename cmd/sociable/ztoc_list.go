package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func newZTOCListCommand() *cobra.Command {
	var flags storeFlags
	var image, ztocDigest string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the zTOCs in a store",
		Long: `List the zTOCs in a store. A running server is asked; where none runs, its store
is read.`,
		Example: `  sociable ztoc list
  sociable ztoc list --image-ref redis:7 --quiet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := storedZTOCs(cmd.Context(), api, image)
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
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&ztocDigest, "ztoc-digest", "", "only zTOCs whose `DIGEST` begins like this")
	cmd.Flags().StringVar(&image, "image-ref", "", "only those of one `IMAGE`")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print digests alone")
	return cmd
}

// StoredZTOC is a zTOC in a store.
type StoredZTOC struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	LayerDigest digest.Digest `json:"layer_digest"`
}

// storedZTOCs lists the zTOCs of all images, or of those that word means, each
// once.
func storedZTOCs(ctx context.Context, api adminAPI, word string) ([]StoredZTOC, error) {
	images, err := api.Indexes(ctx)
	if err != nil {
		return nil, err
	}
	if word != "" {
		matches := matcher(word)
		images = slices.DeleteFunc(images, func(x IndexInfo) bool { return !matches(x) })
		if len(images) == 0 {
			return nil, fmt.Errorf("no indexed image is meant by %q; sociable index list --all shows what there is", word)
		}
	}
	var list []StoredZTOC
	for _, x := range images {
		for _, l := range x.Layers {
			if z := (StoredZTOC{l.ZTOC, l.ZTOCSize, l.Digest}); z.Digest != "" && !slices.Contains(list, z) {
				list = append(list, z)
			}
		}
	}
	return list, nil
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
