package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/web"
)

type warmFlags struct {
	serverFlags
	images        imageFlags
	noPin, noWait bool
	referrers     bool
	parallel      int
}

func newWarmCommand() *cobra.Command {
	var flags warmFlags
	cmd := &cobra.Command{
		Use:   "warm [IMAGE...]",
		Short: "Bring images here before anybody asks for them",
		Long: `Pull images, index them and pin them, so that no node is the first to ask for
one. Images are named as arguments, in a list with one on each line, or by the
YAML or JSON that will run them: the image of every container, init and ephemeral
container, image volume and custom resource, imageName, and a list of images. What
is no image's name there fails. What was seen elsewhere and not taken is told.

The running server does it; where none runs, the command opens the store itself,
with the configuration that --config names. What is here already is not pulled
again: after an interruption, repeat the command. BLOBS are the manifests, configs
and layers of an image; pin and export also count what was made of it here.

Of an image for several platforms, that for linux and this machine's architecture
is taken unless --platform says otherwise; an image that is for none of the named
ones fails. Exit code 1 says that an image failed; the others are here all the same.`,
		Example: `  sociable warm -f images.txt
  helm template ./chart | sociable warm -f - --platform linux/amd64 --platform linux/arm64
  sociable warm redis:7 ghcr.io/acme/app:1.2 --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runWarm(cmd, args, &flags) },
	}
	flags.register(cmd)
	flags.images.register(cmd)
	cmd.Flags().BoolVar(&flags.noPin, "no-pin", false, "let them be evicted like any other image")
	cmd.Flags().BoolVar(&flags.noWait, "no-wait", false, "do not wait until they are indexed")
	cmd.Flags().BoolVar(&flags.referrers, "referrers", false, "pull signatures, SBOMs and whatever else refers to them, too")
	cmd.Flags().IntVarP(&flags.parallel, "parallel", "j", 2, "pull so many images at once")
	return cmd
}

// warmed is what became of one image, as --json prints it.
type warmed struct {
	Name      string        `json:"name"`
	Reference string        `json:"reference,omitempty"` // canonical
	Digest    digest.Digest `json:"digest,omitempty"`
	Platforms []string      `json:"platforms,omitempty"`
	Blobs     int           `json:"blobs"`   // that it is made of, manifests included
	Bytes     int64         `json:"bytes"`   // of its configs and layers
	Fetched   int64         `json:"fetched"` // bytes that were not here
	Layers    int           `json:"layers"`  // that are indexed, or were found not to be indexable
	Pinned    bool          `json:"pinned"`
	Unchecked string        `json:"unchecked,omitempty"` // why the tag is as it was last seen
	Error     string        `json:"error,omitempty"`
}

func runWarm(cmd *cobra.Command, args []string, flags *warmFlags) error {
	names, left, err := flags.images.read(cmd, args)
	if err != nil {
		return err
	}
	platforms, err := flags.images.wanted()
	if err != nil {
		return err
	}
	if flags.parallel < 1 {
		return usageError{error: fmt.Errorf("--parallel: want at least 1")}
	}
	if !flags.json {
		tellIgnored(cmd.ErrOrStderr(), left)
	}
	q := web.WarmRequest{Platforms: platforms, OrOnly: flags.images.anyPlatform(), Pin: !flags.noPin, Index: !flags.noWait, Referrers: flags.referrers}
	return withServer(cmd, &flags.serverFlags, func(ctx context.Context, c *adminClient) error {
		results, _ := warmAll(ctx, cmd, c, names, q, flags.parallel)
		results = append(results, flags.images.bad...)
		if flags.json {
			err = printJSON(cmd.OutOrStdout(), map[string]any{"images": results, "ignored": append([]ignored{}, left...)})
		} else {
			err = printWarmed(cmd.OutOrStdout(), results)
		}
		return cmp.Or(err, warmFailed(results), context.Cause(ctx))
	})
}

// warmAll brings images, some at once, and says what became of each.
func warmAll(ctx context.Context, cmd *cobra.Command, c *adminClient, names []string, q web.WarmRequest, parallel int) ([]warmed, []web.WarmImage) {
	bar := newImagesProgress(cmd, len(names))
	defer bar.end()
	return bringAll(ctx, c, names, q, parallel, bar)
}

// bringAll is warmAll, telling to, where it is not nil, how far it is.
func bringAll(ctx context.Context, c *adminClient, names []string, q web.WarmRequest, parallel int, to *imagesProgress) ([]warmed, []web.WarmImage) {
	results, images := make([]warmed, len(names)), make([]web.WarmImage, len(names))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, name := range names {
		g.Go(func() error {
			q := q
			q.Name = name
			x, err := c.Warm(ctx, q, func(e web.WarmEvent) { to.tell(i, name, e) })
			results[i], images[i] = resultOf(name, x, err), x
			to.done(i, results[i])
			return nil
		})
	}
	_ = g.Wait() // what went wrong stands in the results
	return results, images
}

func resultOf(name string, x web.WarmImage, err error) warmed {
	w := warmed{
		Name: name, Reference: x.Reference, Digest: x.Pulled.Root.Digest, Blobs: len(x.Pulled.Blobs) + len(x.Pulled.Manifests), Platforms: x.Platforms, Fetched: x.Pulled.Fetched,
		Layers: x.Layers, Pinned: x.Pinned, Unchecked: x.Pulled.Unchecked,
	}
	for _, b := range x.Pulled.Blobs {
		w.Bytes += b.Size
	}
	slices.Sort(w.Platforms)
	if err != nil {
		w.Error = err.Error()
	}
	return w
}

func warmFailed(results []warmed) error {
	n := 0
	for _, r := range results {
		if r.Error != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s failed", n, inWords(len(results), "image"))
}

func printWarmed(w io.Writer, results []warmed) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tDIGEST\tPLATFORMS\tBLOBS\tSIZE\tFETCHED\tRESULT")
	for _, r := range distinct(results) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", cmp.Or(r.Reference, r.Name, "-"), shortDigest(r.Digest),
			orDash(strings.Join(r.Platforms, ",")), r.Blobs, humanize.IBytes(uint64(r.Bytes)), humanize.IBytes(uint64(r.Fetched)), r.result())
	}
	return t.Flush()
}

// distinct leaves out images that came under another spelling, too.
func distinct(results []warmed) (list []warmed) {
	seen := map[string]bool{}
	for _, r := range results {
		if r.Error != "" || !seen[r.Reference] {
			list = append(list, r)
		}
		seen[r.Reference] = true
	}
	return list
}

// result is a warmed image's last column.
func (r warmed) result() string {
	if r.Error != "" {
		return "failed: " + r.Error
	}
	words := []string{"here"}
	if r.Pinned {
		words = append(words, "pinned")
	}
	if r.Unchecked != "" {
		words = append(words, "tag not checked: "+r.Unchecked)
	}
	return strings.Join(words, ", ")
}
