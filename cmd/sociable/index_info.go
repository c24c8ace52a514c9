package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
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
	var platforms []string
	cmd := &cobra.Command{
		Use:   "info IMAGE|DIGEST|LAYOUT[:TAG]",
		Short: "Show one image's index, layer by layer",
		Long: `Show one image's index, layer by layer: its zTOC, or why it has none. The image
is named by its reference, in an OCI layout by its tag, or by the digest of its
manifest, of which the first characters suffice. Of an image for many platforms,
each that is indexed is shown, as JSON in a list; of an OCI layout, all indexes
are. By the digest of a SOCI index, its manifest is printed, as soci index info
does.`,
		Example: `  sociable index info redis:7
  sociable index info redis:7 --platform linux/arm64
  sociable index info sha256:9f3c1a
  sociable index info --layout redis-soci sha256:9f3c1a`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, ok := openLayout(args[0])
			if !ok || flags.layout != "" {
				return showIndex(cmd, args[0], platforms, &flags)
			}
			list, err := l.layoutIndexes()
			if err == nil && len(list) == 0 {
				err = fmt.Errorf("%s has no SOCI index; sociable index create makes one", args[0])
			}
			if err == nil {
				list, err = forPlatforms(list, args[0], platforms)
			}
			if err != nil {
				return err
			}
			return printCreated(cmd.OutOrStdout(), list, flags.json)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringArrayVarP(&platforms, "platform", "p", nil, "only those for `OS/ARCHITECTURE` (repeatable)")
	return cmd
}

// showIndex shows the one image, for each of its platforms, or the SOCI index, that
// word means.
func showIndex(cmd *cobra.Command, word string, platforms []string, flags *placeFlags) error {
	from, err := flags.place()
	if err != nil {
		return err
	}
	list, err := from.indexesOf(cmd.Context(), word, platforms)
	if err != nil {
		return err
	}
	switch x := list[0]; {
	case len(list) > 1:
		return printCreated(cmd.OutOrStdout(), list, flags.json)
	case x.Index != "" && strings.HasPrefix(x.Index.String(), word):
		return printIndexManifest(cmd.OutOrStdout(), from, x.Index)
	case flags.json:
		return printJSON(cmd.OutOrStdout(), x)
	}
	return printIndex(cmd.OutOrStdout(), list[0])
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

// isDigest says that word is a digest, or the beginning of one.
func isDigest(word string) bool {
	alg, hex, ok := strings.Cut(word, ":")
	return ok && (alg == "sha256" || alg == "sha512") && hex != ""
}

// matcher reads word as the beginning of a digest, or as a reference in any of
// the spellings that lead to an image through the proxy.
func matcher(word string) func(IndexInfo) bool {
	if isDigest(word) {
		return func(x IndexInfo) bool {
			return strings.HasPrefix(x.Manifest.String(), word) || strings.HasPrefix(x.Index.String(), word)
		}
	}
	return func(x IndexInfo) bool { return namedAs(word, x) != "" }
}

// namedAs is the repository of x that the reference word leads to, in any of the
// spellings, the first that x has; "" where it leads to another image.
func namedAs(word string, x IndexInfo) string {
	spellings := []string{word}
	if first, rest, ok := strings.Cut(word, "/"); ok && (strings.Contains(first, ":") || first == "localhost") {
		spellings = append(spellings, rest) // the proxy's own address before it
	}
	for _, n := range append([]web.IndexName{{Repository: x.Repository, Tags: x.Tags}}, x.Also...) {
		as := x
		as.Repository, as.Tags = n.Repository, n.Tags
		if slices.ContainsFunc(spellings, func(s string) bool { return isReferenceTo(s, as) }) {
			return n.Repository
		}
	}
	return ""
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
	case p.Alike:
		return fmt.Sprintf("v1 not in %s, which has %s, made by sociable or soci, but not here: sociable jobs list says what to do (%s)", p.Repository, shortDigest(p.Instead), at)
	case p.Instead != "":
		return fmt.Sprintf("v1 not in %s, which has %s, not from here (%s)", p.Repository, shortDigest(p.Instead), at)
	case p.Begun && len(p.Tags)+len(p.Taken) == 0:
		return fmt.Sprintf("%s %s is being pushed to %s, see sociable jobs list (begun %s)", p.Form, shortDigest(p.Index), p.Repository, at)
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
	if len(parts) == 0 {
		parts = append(parts, "at no tag any more")
	}
	return fmt.Sprintf("v2 %s in %s, %s (%s)", shortDigest(p.Index), p.Repository, strings.Join(parts, "; "), at)
}

// withdrawnText says of a repository that nothing of an image is offered in it.
const withdrawnText = "nothing is offered here (sociable index rm)"

// notOfferedText says that the referrers API has no index of an image for a repository.
const notOfferedText = "no index is offered here (sociable config explain says why)"

// isWithdrawn reports whether that is so in every repository that has the image.
func isWithdrawn(x IndexInfo) bool {
	return x.Withdrawn && !slices.ContainsFunc(x.Also, func(n web.IndexName) bool { return !n.Withdrawn })
}

func printIndex(w io.Writer, x IndexInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "repository\t%s\n", x.Repository)
	if len(x.Tags) > 0 {
		fmt.Fprintf(t, "tags\t%s\n", strings.Join(x.Tags, ", "))
	}
	switch {
	case x.Withdrawn:
		fmt.Fprintf(t, "withdrawn\t%s\n", withdrawnText)
	case x.NotOffered:
		fmt.Fprintf(t, "not offered\t%s\n", notOfferedText)
	}
	for _, n := range x.Also {
		name := strings.TrimSpace(n.Repository + " " + strings.Join(n.Tags, ", "))
		switch {
		case n.Withdrawn:
			name += ", " + withdrawnText
		case n.NotOffered:
			name += ", " + notOfferedText
		}
		fmt.Fprintf(t, "also\t%s\n", name)
	}
	fmt.Fprintf(t, "manifest\t%s\n", x.Manifest)
	if x.Platform != "" {
		fmt.Fprintf(t, "platform\t%s\n", x.Platform)
	}
	switch {
	case x.Index == "" && isWithdrawn(x):
		fmt.Fprintf(t, "index\tnone\n")
	case x.Index == "":
		fmt.Fprintf(t, "index\tnot published yet\n")
	default:
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
	if x.Ended != nil {
		for _, repo := range x.Ended.NoLongerOffered {
			fmt.Fprintf(t, "ended\tv1 no longer offered in %s: these sizes hold for the image wherever it is\n", repo)
		}
		for _, p := range x.Ended.Upstream {
			fmt.Fprintf(t, "ended\tstays at the upstream: %s\n", publishedText(p))
		}
	}
	fmt.Fprintf(t, "layers\t%d of %d indexed\n\n", indexedLayers(x), len(x.Layers))
	if err := t.Flush(); err != nil {
		return err
	}
	return printLayers(t, x.Layers)
}

// printLayers prints a row for each layer; what is long, and not of all of them,
// stands last.
func printLayers(t *tabwriter.Writer, layers []LayerInfo) error {
	head, some := "LAYER\tSIZE\tSTATE\tSPANS\tZTOC\tZTOC SIZE", slices.ContainsFunc(layers, func(l LayerInfo) bool { return l.Reason != "" })
	if some {
		head += "\tREASON"
	}
	fmt.Fprintln(t, head)
	for _, l := range layers {
		spans, size := "-", "-"
		if l.ZTOC != "" {
			spans, size = strconv.Itoa(l.Spans), humanize.IBytes(uint64(l.ZTOCSize))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s", shortDigest(l.Digest), humanize.IBytes(uint64(l.Size)), l.State, spans, shortDigest(l.ZTOC), size)
		if some {
			fmt.Fprintf(t, "\t%s", orDash(l.Reason))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
