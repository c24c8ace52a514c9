package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

func newIndexListCommand() *cobra.Command {
	var flags placeFlags
	var filter indexFilter
	var full, quiet, all bool
	cmd := &cobra.Command{
		Use:     "list [LAYOUT]",
		Aliases: []string{"ls"},
		Short:   "List SOCI indexes, or all images and how far they are",
		Long: `List SOCI indexes, the latest first, in the columns of soci index list. A running
server is asked; where none runs, its store is read. With --all, and as JSON, it
is every image that is indexed or about to be, and how far it is. A running server
also knows in which repositories its rules list the index. Of an OCI layout, these
are the indexes in it.`,
		Example: `  sociable index list
  sociable index list --all
  sociable index list --ref redis:7 --quiet
  sociable index list redis-soci`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				flags.layout = args[0]
			}
			from, err := flags.place()
			if err != nil {
				return err
			}
			list, err := from.indexes(cmd.Context())
			if err == nil {
				list, err = filter.of(from, list)
			}
			if err != nil {
				return err
			}
			switch {
			case flags.json:
				return printJSON(cmd.OutOrStdout(), append([]IndexInfo{}, list...)) // [] rather than null
			case all:
				return printImages(cmd.OutOrStdout(), list, full)
			}
			list = slices.DeleteFunc(list, func(x IndexInfo) bool { return x.Index == "" })
			slices.SortStableFunc(list, func(a, b IndexInfo) int { return b.Created.Compare(a.Created) })
			if quiet {
				for _, x := range list {
					fmt.Fprintln(cmd.OutOrStdout(), x.Index)
				}
				return nil
			}
			return printIndexes(cmd.OutOrStdout(), list)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&filter.image, "ref", "", "only those of one `IMAGE`")
	cmd.Flags().StringArrayVarP(&filter.platforms, "platform", "p", nil, "only those for `OS/ARCHITECTURE` (repeatable)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print digests alone")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "every image, and how far it is")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "with --all: print digests in full")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// indexFilter says which images to show.
type indexFilter struct {
	image     string
	platforms []string
}

// of gives the images that are wanted; that there is none of the name is an error.
func (f indexFilter) of(from place, list []IndexInfo) ([]IndexInfo, error) {
	names, err := platformNames(f.platforms)
	if err != nil {
		return nil, err
	}
	if list, err = from.meant(list, f.image); err != nil || len(names) == 0 {
		return list, err
	}
	return slices.DeleteFunc(list, func(x IndexInfo) bool { return !slices.Contains(names, x.Platform) }), nil
}

// platformNames reads --platform.
func platformNames(words []string) (names []string, err error) {
	for _, word := range words {
		p, err := oci.ParsePlatform(word)
		if err != nil {
			return nil, usageError{error: fmt.Errorf("--platform: %w", err)}
		}
		names = append(names, oci.PlatformName(p))
	}
	return names, nil
}

// printIndexes prints the columns of `soci index list`: a row for each name of
// an index's image.
func printIndexes(w io.Writer, list []IndexInfo) error {
	t := tabwriter.NewWriter(w, 8, 8, 4, ' ', 0)
	fmt.Fprint(t, "DIGEST\tSIZE\tIMAGE REF\tPLATFORM\tMEDIA TYPE\tMANIFEST VERSION\tCREATED\t\n")
	for _, x := range list {
		in := repositories(x)
		in = in[max(0, slices.IndexFunc(in, func(n web.IndexName) bool { return !n.Withdrawn && !n.NotOffered })):]
		names := []string{in[0].Repository + "@" + x.Manifest.String()}
		for i, tag := range in[0].Tags {
			names = append(names[:i], in[0].Repository+":"+tag)
		}
		for _, name := range names {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s ago\t\n", x.Index, x.Size, name, x.Platform,
				v1.MediaTypeImageManifest, cmp.Or(x.Version, "v1"), time.Since(x.Created).Round(time.Second))
		}
	}
	return t.Flush()
}

// printImages prints how far each image is.
func printImages(w io.Writer, list []IndexInfo, full bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REPOSITORY\tMANIFEST\tINDEX\tLAYERS INDEXED\tCREATED\tUPSTREAM")
	for _, x := range list {
		manifest, index, created := shortDigest(x.Manifest), shortDigest(x.Index), "-"
		if full {
			manifest, index = x.Manifest.String(), orDash(x.Index.String())
		}
		if !x.Created.IsZero() {
			created = humanize.Time(x.Created)
		}
		for _, n := range repositories(x) {
			index, created := index, created
			switch {
			case n.Withdrawn:
				index, created = "withdrawn", "-"
			case n.NotOffered:
				index, created = "not offered", "-"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d of %d\t%s\t%s\n", n.Repository, manifest, index, indexedLayers(x), len(x.Layers), created, upstreamForms(x, n.Repository))
		}
	}
	return t.Flush()
}

// repositories are those that have an image.
func repositories(x IndexInfo) []web.IndexName {
	return append([]web.IndexName{{Repository: x.Repository, Tags: x.Tags, Withdrawn: x.Withdrawn, NotOffered: x.NotOffered}}, x.Also...)
}

// upstreamForms names the forms of an index that the image's upstream has in a
// repository.
func upstreamForms(x IndexInfo, repository string) string {
	var forms []string
	for _, p := range x.Published {
		if p.Repository != repository {
			continue
		}
		if p.Listed != "" || len(p.Tags) > 0 {
			forms = append(forms, p.Form)
		}
	}
	slices.Sort(forms)
	return orDash(strings.Join(slices.Compact(forms), ","))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
