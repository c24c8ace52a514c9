package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/distribution/reference"
	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newIndexInfoCommand() *cobra.Command {
	var flags placeFlags
	cmd := &cobra.Command{
		Use:   "info IMAGE|DIGEST|LAYOUT",
		Short: "Show one image's index, layer by layer",
		Long: `Show one image's index, layer by layer: its zTOC, or why it has none. The image
is named by its reference, or by the digest of its manifest, of which the first
characters suffice. Of an OCI layout, all indexes are shown. By the digest of a
SOCI index, its manifest is printed, as soci index info does.`,
		Example: `  sociable index info redis:7
  sociable index info sha256:9f3c1a
  sociable index info --layout redis-soci sha256:9f3c1a`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, ok := openLayout(args[0])
			if !ok || flags.layout != "" {
				return showIndex(cmd, args[0], &flags)
			}
			list, err := l.layoutIndexes()
			if err == nil && len(list) == 0 {
				err = fmt.Errorf("%s has no SOCI index; sociable index create makes one", args[0])
			}
			if err != nil {
				return err
			}
			return printCreated(cmd.OutOrStdout(), list, flags.json)
		},
	}
	flags.register(cmd)
	return cmd
}

// showIndex shows the one image, or SOCI index, that word means.
func showIndex(cmd *cobra.Command, word string, flags *placeFlags) error {
	from, err := flags.place()
	if err != nil {
		return err
	}
	x, err := from.index(cmd.Context(), word)
	switch {
	case err != nil:
		return err
	case x.Index != "" && strings.HasPrefix(x.Index.String(), word):
		return printIndexManifest(cmd.OutOrStdout(), from, x.Index)
	case flags.json:
		return printJSON(cmd.OutOrStdout(), x)
	}
	return printIndex(cmd.OutOrStdout(), x)
}

// printIndexManifest prints a SOCI index manifest, indented.
func printIndexManifest(w io.Writer, from place, d digest.Digest) error {
	f, err := from.blob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	body, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return fmt.Errorf("index %s: %w", d, err)
	}
	_, err = fmt.Fprintln(w, out.String())
	return err
}

// index finds the one image that word means.
func (p place) index(ctx context.Context, word string) (x IndexInfo, err error) {
	if p.layout != nil {
		list, err := p.indexes(ctx)
		if err != nil {
			return x, err
		}
		return oneMeant(list, word)
	}
	err = withStore(ctx, p.dataDir, func(api adminAPI) error {
		list, err := api.Indexes(ctx)
		if err == nil {
			x, err = oneMeant(list, word)
		}
		if err == nil {
			x, err = api.Index(ctx, x.Manifest)
		}
		return err
	})
	return x, err
}

// oneMeant is the one image that word means.
func oneMeant(all []IndexInfo, word string) (IndexInfo, error) {
	matches := matcher(word)
	list := slices.DeleteFunc(slices.Clone(all), func(x IndexInfo) bool { return !matches(x) })
	switch len(list) {
	case 0:
		for _, z := range zTOCsOf(all) {
			if strings.Contains(word, ":") && strings.HasPrefix(z.Digest.String(), word) {
				return IndexInfo{}, fmt.Errorf("%s is a zTOC, no index: see sociable ztoc info", word)
			}
		}
		return IndexInfo{}, noImage(word)
	case 1:
		return list[0], nil
	}
	return IndexInfo{}, fmt.Errorf("%q could mean %s or %s, of %d; name it by its digest",
		word, shortDigest(list[0].Manifest), shortDigest(list[1].Manifest), len(list))
}

func noImage(word string) error {
	return fmt.Errorf("no indexed image is meant by %q; sociable index list --all shows what there is", word)
}

// matcher reads word as the beginning of a digest, or as a reference in any of
// the spellings that lead to an image through the proxy.
func matcher(word string) func(IndexInfo) bool {
	if alg, hex, ok := strings.Cut(word, ":"); ok && (alg == "sha256" || alg == "sha512") && hex != "" {
		return func(x IndexInfo) bool {
			return strings.HasPrefix(x.Manifest.String(), word) || strings.HasPrefix(x.Index.String(), word)
		}
	}
	spellings := []string{word}
	if first, rest, ok := strings.Cut(word, "/"); ok && (strings.Contains(first, ":") || first == "localhost") {
		spellings = append(spellings, rest) // the proxy's own address before it
	}
	return func(x IndexInfo) bool {
		return slices.ContainsFunc(spellings, func(s string) bool {
			return isReferenceTo(s, x) || slices.ContainsFunc(x.Also, func(n web.IndexName) bool {
				as := x
				as.Repository, as.Tags = n.Repository, n.Tags
				return isReferenceTo(s, as)
			})
		})
	}
}

// isReferenceTo reports whether the reference s, with Docker's defaults or
// without, leads to x. A reference without tag or digest means any.
func isReferenceTo(s string, x IndexInfo) bool {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return false
	}
	if rest, ok := strings.CutPrefix(s, x.Repository); ref.Name() != x.Repository && (!ok || (rest != "" && rest[0] != ':' && rest[0] != '@')) {
		return false
	}
	if d, ok := ref.(reference.Digested); ok {
		return d.Digest() == x.Manifest
	}
	if t, ok := ref.(reference.Tagged); ok {
		return slices.Contains(x.Tags, t.Tag())
	}
	return ref.Name() == x.Repository || s == x.Repository
}

// publishedText says where an index is at the image's upstream.
func publishedText(p web.Published) string {
	at := humanize.Time(p.At)
	switch {
	case p.Instead != "":
		return fmt.Sprintf("v1 not in %s, which has %s, not from here (%s)", p.Repository, shortDigest(p.Instead), at)
	case p.Form == "v1":
		how := "by the referrers API"
		if p.Listed == web.ListedByTag {
			how = "by the fallback tag"
		}
		return fmt.Sprintf("v1 %s in %s, found %s (%s)", shortDigest(p.Index), p.Repository, how, at)
	}
	var parts []string
	if len(p.Tags) > 0 {
		parts = append(parts, "at "+strings.Join(p.Tags, ", "))
	}
	if len(p.Taken) > 0 {
		parts = append(parts, "not at "+strings.Join(p.Taken, ", ")+", which is somebody else's")
	}
	return fmt.Sprintf("v2 %s in %s, %s (%s)", shortDigest(p.Index), p.Repository, strings.Join(parts, "; "), at)
}

func printIndex(w io.Writer, x IndexInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "repository\t%s\n", x.Repository)
	if len(x.Tags) > 0 {
		fmt.Fprintf(t, "tags\t%s\n", strings.Join(x.Tags, ", "))
	}
	for _, n := range x.Also {
		fmt.Fprintf(t, "also\t%s\n", strings.TrimSpace(n.Repository+" "+strings.Join(n.Tags, ", ")))
	}
	fmt.Fprintf(t, "manifest\t%s\n", x.Manifest)
	if x.Platform != "" {
		fmt.Fprintf(t, "platform\t%s\n", x.Platform)
	}
	if x.Index == "" {
		fmt.Fprintf(t, "index\tnot published yet\n")
	} else {
		fmt.Fprintf(t, "index\t%s\n", x.Index)
		fmt.Fprintf(t, "size\t%s\n", humanize.IBytes(uint64(x.Size)))
		fmt.Fprintf(t, "created\t%s\n", x.Created.Format(time.RFC3339))
		if x.Learned != "" {
			fmt.Fprintf(t, "learned\t%s (see sociable learn show)\n", x.Learned)
		}
	}
	for _, p := range x.Published {
		fmt.Fprintf(t, "upstream\t%s\n", publishedText(p))
	}
	fmt.Fprintf(t, "layers\t%d of %d indexed\n\n", indexedLayers(x), len(x.Layers))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "LAYER\tSIZE\tSTATE\tSPANS\tZTOC\tZTOC SIZE")
	for _, l := range x.Layers {
		fmt.Fprintf(t, "%s\t%s\t%s\t", shortDigest(l.Digest), humanize.IBytes(uint64(l.Size)), l.State)
		if l.ZTOC == "" {
			fmt.Fprintf(t, "%s\n", l.Reason)
		} else {
			fmt.Fprintf(t, "%d\t%s\t%s\n", l.Spans, shortDigest(l.ZTOC), humanize.IBytes(uint64(l.ZTOCSize)))
		}
	}
	return t.Flush()
}
