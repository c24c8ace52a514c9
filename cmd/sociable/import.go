package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

type importFlags struct {
	serverFlags
	how web.ImportOptions
}

func newImportCommand() *cobra.Command {
	var flags importFlags
	cmd := &cobra.Command{
		Use:   "import BUNDLE [PART...]",
		Short: "Take images out of a bundle",
		Long: `Take the images of a bundle that sociable export made into the store, as if they
had been pulled: under the names of their upstreams, which have to be configured
here, with their tags where these led when the bundle was made: a bundle with an
image of another upstream or hosted namespace is refused, and nothing of it taken.
Every byte is checked against its digest. Images are pinned, since they could not be pulled
again, and indexed here from their bytes: the SOCI indexes of the bundle are for
other tools, and only compared with what comes out.

Of a bundle that was exported with --lazy-only, layers come by some of their spans.
Nobody can tell from these what the whole layer is: they are taken only where the
bundle is signed with a key in import.trusted_keys of the configuration, or with
--trust-spans. They then answer ranges of that layer and nothing else.

Importing again changes nothing; after an interruption, repeat the command: what
has come is not stored again. A bundle in parts is named without their numbers,
or by all of its parts in order; - is standard input.`,
		Example: `  sociable import bundle.tar
  ssh outside cat bundle.tar | sociable import -`,
		Args: atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Before a store is made for what is in it.
			in, size, end, err := openParts(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			defer end()
			src := &barred{r: in}
			r, err := bundle.NewReader(bufio.NewReaderSize(src, 1<<20))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return withServer(cmd, &flags.serverFlags, func(ctx context.Context, c *adminClient) error {
				bar := newProgress(cmd, size, "importing")
				defer bar.end()
				src.bar = bar
				x, results, err := takeBundle(ctx, c, r, bar, flags.how)
				if err != nil {
					return cmp.Or(context.Cause(ctx), fmt.Errorf("%s: %w", args[0], err))
				}
				return x.print(cmd, results, flags.json)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&flags.how.NoPin, "no-pin", false, "let the images be evicted like any other")
	cmd.Flags().BoolVar(&flags.how.NoWait, "no-wait", false, "do not wait until they are indexed")
	cmd.Flags().BoolVar(&flags.how.TrustSpans, "trust-spans", false, "take layers by their spans from whoever made the bundle, signed or not")
	return cmd
}

// imported is what became of one image, as --json prints it.
type imported = web.ImportedImage

// barred is read while a bar shows it, from when on there is one.
type barred struct {
	r   io.Reader
	bar progress
}

func (b *barred) Read(p []byte) (int, error) { return b.bar.reader(b.r).Read(p) }

// importing is an import at work.
type importing struct {
	ctx   context.Context
	c     *adminClient
	how   web.ImportOptions
	st    *bundle.Statement
	types map[digest.Digest]string // of manifests
	bar   progress
	begun bool // the pins are set
	trust web.BundleSigner
	made  map[digest.Digest]storage.BlobRow // what is taken of what was made: for layers that come by spans

	parts madeParts // of what is not

	blobs, had      int
	bytes, hadBytes int64
	parted          int           // of blobs: configs and layers, which are stored as they are
	failed          map[int]error // images
}

// takeBundle takes what r has into the store of the server that c speaks to.
func takeBundle(ctx context.Context, c *adminClient, r *bundle.Reader, bar progress, how web.ImportOptions) (*importing, []imported, error) {
	st, _ := r.Statement()
	x := &importing{ctx: ctx, c: c, how: how, st: st, bar: bar, types: map[digest.Digest]string{}, failed: map[int]error{},
		parts: madeParts{map[digest.Digest]*oci.Manifest{}, map[digest.Digest][][2]int{}}}
	for i := range st.Images {
		for _, m := range st.Images[i].Manifests {
			x.types[m.Digest] = m.MediaType
		}
	}
	if err := x.judge(r.Signature()); err != nil {
		return nil, nil, err
	}
	if err := x.places(); err != nil {
		return nil, nil, err
	}
	if err := x.take(r); err != nil {
		return nil, nil, err
	}
	bar.end()
	return x, x.file(), nil
}

// places has every image's upstream be configured here, before anything is taken:
// what a private upstream has must not become another one's.
func (x *importing) places() error {
	var unknown []string
	for i := range x.st.Images {
		q := web.ImportRequest{Reference: x.st.Images[i].Reference, Check: true}
		_, err := x.c.Import(x.ctx, q)
		if errors.Is(err, storage.ErrNotFound) {
			first, _, _ := strings.Cut(q.Reference, "/")
			unknown = append(unknown, first)
		} else if err != nil {
			return fmt.Errorf("%s: %w", q.Reference, err)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("it has images of %s, for which no upstream and no hosted namespace is configured here; nothing was taken. "+
		"Add them to upstreams or hosted as they are where the bundle was made; where no server runs, with --config or --upstream",
		strings.Join(slices.Compact(unknown), ", "))
}

// take brings the bytes of the bundle into the store.
func (x *importing) take(r *bundle.Reader) error {
	for {
		b, body, err := r.Next()
		if errors.Is(err, io.EOF) {
			x.pin() // a bundle may hold no blob
			return nil
		}
		if err != nil {
			return err
		}
		if !b.Manifest {
			x.pin()
		}
		if err := x.blob(b, body); err != nil {
			return err
		}
	}
}

// blob stores one blob, or compares it with its digest where it need not be
// stored: because it is here, or because it is made here.
func (x *importing) blob(b bundle.Blob, body io.Reader) error {
	x.blobs, x.bytes = x.blobs+1, x.bytes+b.Size
	if row, ok := x.made[b.Digest]; ok {
		return x.takeMade(b, row, body)
	}
	if b.Manifest && !b.Made {
		p, err := io.ReadAll(body) // its size was checked
		if err != nil {
			return err
		}
		return x.c.PutManifest(x.ctx, b.Digest, x.types[b.Digest], p)
	}
	if b.Made {
		return x.parts.add(b, body)
	}
	x.parted++
	here, err := x.c.HasBlob(x.ctx, b.Digest)
	if err != nil {
		return err
	}
	if here {
		x.had, x.hadBytes = x.had+1, x.hadBytes+b.Size
		_, err := io.Copy(io.Discard, body)
		return err
	}
	return x.c.PutBlob(x.ctx, b.Digest, b.Size, body)
}

// pin keeps what is to come, before its first blob does.
func (x *importing) pin() {
	if x.begun || x.how.NoPin {
		return
	}
	x.begun = true
	for i := range x.st.Images {
		if _, err := x.c.Import(x.ctx, x.request(i, true)); err != nil {
			x.failed[i] = err
		}
	}
}

// request is what the server is told of image i.
func (x *importing) request(i int, early bool) web.ImportRequest {
	img := &x.st.Images[i]
	q := web.ImportRequest{Reference: img.Reference, Root: img.Root.Digest, Pin: !x.how.NoPin, Early: early}
	for _, m := range img.Manifests {
		q.Manifests = append(q.Manifests, oci.PulledManifest(m))
	}
	if early {
		return q
	}
	for _, d := range img.Blobs {
		if !slices.Contains(img.LeftOut, d) && !isLazy(img, d) {
			q.Blobs = append(q.Blobs, d)
		}
	}
	q.LeftOut, q.Starts, q.Taken = img.LeftOut, x.parts.starts(img), img.Taken
	if q.Lazy, q.Signed = img.Lazy, signedBy(x.trust); len(q.Lazy) > 0 {
		for _, m := range img.Indexes {
			q.Indexes = append(q.Indexes, oci.PulledManifest(m))
		}
	}
	return q
}

// file makes the images findable, and waits for their indexes.
func (x *importing) file() []imported {
	results := make([]imported, len(x.st.Images))
	for i := range x.st.Images {
		img := &x.st.Images[i]
		results[i] = imported{Reference: img.Reference, Digest: img.Root.Digest}
		err := x.failed[i]
		if err == nil {
			var got web.Imported
			got, err = x.c.Import(x.ctx, x.request(i, false))
			results[i].Before, results[i].Pinned, results[i].Lazy = got.Before, got.Pinned, got.Lazy
			results[i].Reference = cmp.Or(got.Reference, img.Reference)
		}
		if err != nil {
			results[i].Error = err.Error()
		}
	}
	for i := range results {
		if results[i].Error == "" && len(x.st.Images[i].Lazy) > 0 {
			results[i].Index = "from the bundle"
		} else if results[i].Error == "" && !x.how.NoWait {
			if err := x.await(&x.st.Images[i], &results[i]); err != nil {
				results[i].Error = err.Error()
			}
		}
	}
	return results
}

// await waits until an image is indexed here, and compares that with the index
// in the bundle.
func (x *importing) await(img *bundle.Image, r *imported) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, m := range img.Manifests {
		for {
			st, err := x.c.IndexState(x.ctx, m.Digest)
			if err != nil {
				return err
			}
			if st.Done {
				break
			}
			if st.Tries >= 3 {
				return fmt.Errorf("imported, but %s is not indexed after %d tries: %s", m.Digest, st.Tries, st.Trouble)
			}
			select {
			case <-tick.C:
			case <-x.ctx.Done():
				return context.Cause(x.ctx)
			}
		}
		if err := x.compare(img, m.Digest, r); err != nil {
			return err
		}
	}
	return nil
}

func (x *importing) compare(img *bundle.Image, d digest.Digest, r *imported) error {
	ours, err := x.c.Index(x.ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // no image, or nothing is indexed here
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(img.Indexes, func(m bundle.Manifest) bool { return m.Subject == d })
	switch {
	case i < 0 && ours.Index == "":
		r.Index = cmp.Or(r.Index, "none")
	case i >= 0 && (img.Indexes[i].Digest == ours.Index || img.Indexes[i].Digest == ours.Learned):
		if r.Index != "different" {
			r.Index = "same"
		}
	default:
		r.Index = "different" // another rule, or another builder: ours counts
	}
	return nil
}

// report is what came of it.
func (x *importing) report(results []imported) web.ImportReport {
	return web.ImportReport{Images: results, Blobs: x.blobs, Bytes: x.bytes, HadBlobs: x.had, HadBytes: x.hadBytes, Signature: x.trust}
}

// importFailed is an error where an image failed.
func importFailed(results []imported) error {
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s failed", failed, inWords(len(results), "image"))
}

func (x *importing) print(cmd *cobra.Command, results []imported, asJSON bool) error {
	w := cmd.OutOrStdout()
	if asJSON {
		if err := printJSON(w, x.report(results)); err != nil {
			return err
		}
	} else if err := x.table(w, results); err != nil {
		return err
	}
	return importFailed(results)
}

func (x *importing) table(w io.Writer, results []imported) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tDIGEST\tINDEX\tRESULT")
	for _, r := range results {
		result := "here"
		switch {
		case r.Error != "":
			result = "failed: " + r.Error
		case r.Lazy > 0:
			result = fmt.Sprintf("here, but for what no start had read of %d of its layers", r.Lazy)
		case r.Before != "":
			result = "here, the tag led to " + shortDigest(r.Before) + " before"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Reference, shortDigest(r.Digest), orDash(r.Index), result)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printSigner(w, x.trust)
	_, err := fmt.Fprintf(w, "%s, %s checked; of the %d configs and layers among them %d, %s, were here already\n",
		inWords(x.blobs, "blob"), humanize.IBytes(uint64(x.bytes)), x.parted, x.had, humanize.IBytes(uint64(x.hadBytes)))
	return err
}
