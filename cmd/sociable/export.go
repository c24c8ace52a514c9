package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

type exportFlags struct {
	serverFlags
	images   imageFlags
	output   string
	since    []string
	partSize int64
	here     bool
	lazy     bool
	goOn     bool
	sign     string
	parallel int
}

func newExportCommand() *cobra.Command {
	var flags exportFlags
	cmd := &cobra.Command{
		Use:   "export [IMAGE...] -o BUNDLE",
		Short: "Write images into a file, for a cluster without a network",
		Long: `Write images, with what refers to them (signatures, SBOMs) and their SOCI indexes,
into a bundle: an OCI image layout in a tar, which sociable import, skopeo, oras
and ctr read. What is not here yet is pulled first. Images are named as for
sociable warm; for one platform, unless --platform says otherwise, the index of
an image for several stays as it is, so that its digest does.

With --since, blobs that an earlier bundle has for the same repository are left
out; whoever imports needs that one, too. It is read whole, and refused where it is
damaged or cut off. With --part-size the bundle is cut into
files that joined are the bundle. The same images give the same bytes.

Nothing is written when an image fails, unless --keep-going says to write the
others: then what is left out is told, and the exit code is 1 all the same.

With --lazy-only, layers that have a zTOC are left out, but for the spans that
clients of this store have read: a start, and nothing that no start here has
touched. What is left out is told. That is for lazy clients alone, which find the
SOCI v1 index as a referrer (soci-snapshotter: pull_modes.soci_v1), and no v2
image, which is made where the layers are; skopeo and others that want whole layers can't read it.
Layers without a zTOC are in it as ever.

--sign vouches for the bundle with an ed25519 key (PEM, PKCS#8). sociable import
takes spans only from a bundle signed with a key that it is told to trust:

  openssl genpkey -algorithm ed25519 -out KEY
  openssl pkey -in KEY -pubout -out KEY.pub      # import.trusted_keys: [KEY.pub]`,
		Example: `  sociable export -f images.txt -o bundle.tar
  sociable export -f images.txt -o june.tar --since may.tar --part-size 4GB
  sociable export -f images.txt -o start.tar --lazy-only --sign KEY
  skopeo copy oci-archive:bundle.tar:docker.io/library/redis:7 docker://registry.lan/redis:7`,
		RunE: func(cmd *cobra.Command, args []string) error { return runExport(cmd, args, &flags) },
	}
	flags.register(cmd)
	flags.images.register(cmd)
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "write the bundle to `FILE`; - for standard output")
	cmd.Flags().StringArrayVar(&flags.since, "since", nil, "leave out what this earlier `BUNDLE` has; repeat it for its parts")
	cmd.Flags().Var(bytesFlag{&flags.partSize}, "part-size", "cut the bundle into files of at most this `SIZE`")
	cmd.Flags().BoolVar(&flags.here, "no-pull", false, "ask no upstream: an image that is not here in whole is a failure")
	cmd.Flags().BoolVar(&flags.lazy, "lazy-only", false, "leave out layers that have a zTOC, but for the spans that were read here")
	cmd.Flags().BoolVar(&flags.goOn, "keep-going", false, "leave out images that fail, and write the others; the exit code is 1 all the same")
	cmd.Flags().StringVar(&flags.sign, "sign", "", "sign the bundle with the ed25519 key in `FILE`")
	cmd.Flags().IntVarP(&flags.parallel, "parallel", "j", 2, "pull so many images at once")
	return cmd
}

// exported is what --json prints.
type exported struct {
	Images  []warmed      `json:"images"`
	Ignored []ignored     `json:"ignored"`
	Files   []string      `json:"files"`
	Blobs   int           `json:"blobs"`            // in the bundle
	Bytes   int64         `json:"bytes"`            // of these
	LeftOut int64         `json:"left_out"`         // bytes that the earlier bundle has
	Lazy    []lazyLeft    `json:"lazy,omitempty"`   // layers of which some spans are in it
	Signed  digest.Digest `json:"signed,omitempty"` // the key
	Absent  []string      `json:"absent,omitempty"` // what an image names and the bundle has not, since it was not asked for
}

func runExport(cmd *cobra.Command, args []string, flags *exportFlags) error {
	names, left, err := flags.images.read(cmd, args)
	if err != nil {
		return err
	}
	platforms, err := flags.images.wanted()
	if err != nil {
		return err
	}
	out, err := flags.check(cmd)
	if err != nil {
		return err
	}
	since, err := readEarlier(cmd, flags.since)
	if err != nil {
		return err
	}
	var key ed25519.PrivateKey
	if flags.sign != "" {
		if key, err = readSigningKey(flags.sign); err != nil {
			return err
		}
	}
	if !flags.json {
		tellIgnored(cmd.ErrOrStderr(), left)
	}
	q := web.WarmRequest{Platforms: platforms, OrOnly: flags.images.anyPlatform(), Index: true, Referrers: true, Here: flags.here, Lazy: flags.lazy}
	return withServer(cmd, &flags.serverFlags, func(ctx context.Context, c *adminClient) error {
		results, images := warmAll(ctx, cmd, c, names, q, flags.parallel)
		results = append(results, flags.images.bad...)
		failed := warmFailed(results)
		if images = flags.whole(results, images); len(images) == 0 || context.Cause(ctx) != nil {
			return nothingWritten(cmd, results, cmp.Or(context.Cause(ctx), failed), flags.goOn)
		}
		x := exported{Images: results, Ignored: append([]ignored{}, left...)}
		plan, err := planBundle(images, since, &x)
		if err != nil {
			return err
		}
		if err := signPlan(plan, key, &x); err != nil {
			return err
		}
		if x.Files, err = writeBundle(ctx, cmd, c, plan, images, out, flags.partSize); err != nil {
			return err
		}
		return cmp.Or(printExported(cmd, out, flags.json, x), failed)
	})
}

// whole are the images that go into the bundle: all of them, or with --keep-going
// those that did not fail.
func (f *exportFlags) whole(results []warmed, images []web.WarmImage) (whole []web.WarmImage) {
	for i := range results {
		if results[i].Error == "" {
			whole = append(whole, images[i])
		}
	}
	if len(whole) < len(results) && !f.goOn {
		return nil
	}
	return whole
}

// nothingWritten tells how far it came, and the error for that.
func nothingWritten(cmd *cobra.Command, results []warmed, err error, goOn bool) error {
	_ = printWarmed(cmd.ErrOrStderr(), results) // the error says the rest
	hint := ""
	if !goOn && slices.ContainsFunc(results, func(r warmed) bool { return r.Error == "" }) {
		hint = "; --keep-going writes the others"
	}
	return fmt.Errorf("nothing was written: %w%s", err, hint)
}

// check looks at the flags, and at where the bundle goes.
func (f *exportFlags) check(cmd *cobra.Command) (*output, error) {
	switch {
	case f.output == "":
		return nil, usageError{error: errors.New("name the bundle with -o")}
	case f.partSize != 0 && f.partSize < 1<<20:
		return nil, usageError{error: errors.New("--part-size: want at least 1MiB")}
	case f.lazy && len(f.since) > 0:
		return nil, usageError{error: errors.New("--lazy-only and --since: one or the other; a layer is left out for what an earlier bundle has, or for its spans")}
	case f.parallel < 1:
		return nil, usageError{error: errors.New("--parallel: want at least 1")}
	}
	inputs := slices.Concat(f.since, f.images.files)
	if f.sign != "" {
		inputs = append(inputs, f.sign)
	}
	out, err := openOutput(cmd, f.output, inputs...)
	switch {
	case err != nil:
		return nil, err
	case out.stdout != nil && (f.partSize != 0 || f.json):
		return nil, usageError{error: fmt.Errorf("-o %s goes neither with --part-size nor with --json", f.output)}
	case out.pipe && f.partSize != 0:
		return nil, usageError{error: fmt.Errorf("-o %s, which is no file, does not go with --part-size", f.output)}
	}
	return out, nil
}

// readEarlier takes what a bundle states to have only where it has it: what came to
// the other side of one that was cut off is not what would be left out now.
func readEarlier(cmd *cobra.Command, names []string) (*bundle.Earlier, error) {
	if len(names) == 0 {
		return nil, nil
	}
	in, size, end, err := openParts(nil, names)
	if err != nil {
		return nil, err
	}
	defer end()
	bar := newProgress(cmd, size, "reading the earlier bundle")
	defer bar.end()
	r, err := bundle.NewReader(bufio.NewReaderSize(bar.reader(in), 1<<20))
	for err == nil {
		var body io.Reader
		if _, body, err = r.Next(); err == nil {
			_, err = io.Copy(io.Discard, body)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("--since %s: %w", names[0], err)
	}
	st, own := r.Statement()
	return st.Earlier(own)
}

// planBundle says what goes into the bundle, and what does not into x.
func planBundle(images []web.WarmImage, since *bundle.Earlier, x *exported) (*bundle.Plan, error) {
	var list []bundle.Image
	blobs := map[digest.Digest]bundle.Blob{}
	left := map[digest.Digest]int64{}
	seen := map[string]bool{}
	for i := range images {
		w := &images[i]
		if seen[w.Reference] {
			continue
		}
		seen[w.Reference] = true
		img := bundle.Image{Reference: w.Reference, Root: w.Pulled.Root}
		repo, _, err := img.Repo()
		if err != nil {
			return nil, err
		}
		for _, m := range w.Pulled.Manifests {
			img.Manifests = append(img.Manifests, bundle.Manifest(m))
			blobs[m.Digest] = bundle.Blob{Digest: m.Digest, Size: m.Size, Manifest: true}
		}
		lazy := addSpans(&img, w, blobs, x)
		for _, b := range w.Pulled.Blobs {
			img.Blobs = append(img.Blobs, b.Digest)
			if lazy[b.Digest] {
				continue
			}
			if since.Has(repo, b.Digest) {
				img.LeftOut = append(img.LeftOut, b.Digest)
				left[b.Digest] = b.Size
			} else {
				blobs[b.Digest] = bundle.Blob{Digest: b.Digest, Size: b.Size}
			}
		}
		addMade(&img, w, blobs)
		for _, d := range w.Pulled.LeftOut {
			what := d.Digest.String()
			if d.Platform != nil {
				what = "image for " + oci.PlatformName(*d.Platform)
			}
			x.Absent = append(x.Absent, w.Reference+": "+what)
		}
		list = append(list, img)
	}
	flat := make([]bundle.Blob, 0, len(blobs))
	for d, b := range blobs {
		delete(left, d) // another repository needs it
		flat = append(flat, b)
		x.Bytes += b.Size
	}
	x.Blobs = len(flat)
	for _, n := range left {
		x.LeftOut += n
	}
	return bundle.NewPlan(list, flat, since)
}

// addMade adds the SOCI indexes and their zTOCs, and what v2 ones took.
func addMade(img *bundle.Image, w *web.WarmImage, blobs map[digest.Digest]bundle.Blob) {
	img.Taken = w.Taken
	for _, m := range w.Indexes {
		img.Indexes = append(img.Indexes, bundle.Manifest(m))
		blobs[m.Digest] = bundle.Blob{Digest: m.Digest, Size: m.Size, Manifest: true, Made: true}
	}
	for _, b := range w.IndexBlobs {
		img.IndexBlobs = append(img.IndexBlobs, b.Digest)
		if _, ok := blobs[b.Digest]; !ok {
			blobs[b.Digest] = bundle.Blob{Digest: b.Digest, Size: b.Size, Made: true}
		}
	}
}

func writeBundle(ctx context.Context, cmd *cobra.Command, c *adminClient, plan *bundle.Plan, images []web.WarmImage, to *output, partSize int64) ([]string, error) {
	bar := newProgress(cmd, plan.Bytes(), "writing")
	defer bar.end()
	open := blobsOf(ctx, c, images, bar)
	if to.stdout != nil || to.pipe {
		_, err := to.write(planWriter{plan, open})
		return nil, err
	}
	out := &parts{name: to.path, size: partSize, mode: to.mode}
	defer out.abandon()
	w := bufio.NewWriterSize(out, 1<<20)
	if err := plan.Write(w, open); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	files, err := out.finish()
	if err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	return files, nil
}

// blobsOf opens what a bundle of images is made of, at the server that c speaks to.
func blobsOf(ctx context.Context, c *adminClient, images []web.WarmImage, bar progress) func(bundle.Blob) (io.ReadCloser, error) {
	spans := spansOf(images)
	return func(b bundle.Blob) (io.ReadCloser, error) {
		fetch := func() (io.ReadCloser, error) { return c.Blob(ctx, b.Digest) }
		if front := spans[b.Digest]; front != nil {
			fetch = func() (io.ReadCloser, error) { return c.Spans(ctx, front) }
		}
		body, err := fetch()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{bar.reader(body), body}, nil
	}
}

// planWriter writes a bundle; it does not say how many bytes.
type planWriter struct {
	plan *bundle.Plan
	open func(bundle.Blob) (io.ReadCloser, error)
}

func (p planWriter) WriteTo(w io.Writer) (int64, error) { return 0, p.plan.Write(w, p.open) }

func printExported(cmd *cobra.Command, out *output, asJSON bool, x exported) error {
	w, where := cmd.OutOrStdout(), out.name
	if out.stdout != nil {
		w, where = cmd.ErrOrStderr(), "standard output"
	}
	if asJSON {
		return printJSON(w, x)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tDIGEST\tPLATFORMS\tBLOBS\tSIZE")
	for _, r := range distinct(x.Images) {
		if r.Error != "" {
			continue // below
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", r.Reference, shortDigest(r.Digest), orDash(strings.Join(r.Platforms, ",")), r.Blobs, humanize.IBytes(uint64(r.Bytes)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if x.LeftOut > 0 {
		fmt.Fprintf(w, "left out: %s that the earlier bundle has\n", humanize.IBytes(uint64(x.LeftOut)))
	}
	printLazy(w, x)
	for _, r := range x.Images {
		if r.Error != "" {
			fmt.Fprintf(w, "not in it: %s: %s\n", cmp.Or(r.Reference, r.Name), r.Error)
		}
	}
	for _, a := range x.Absent {
		fmt.Fprintf(w, "not in it: %s\n", a)
	}
	_, err := fmt.Fprintf(w, "%s, manifests, SOCI indexes and zTOCs included, %s in %s\n", inWords(x.Blobs, "blob"), humanize.IBytes(uint64(x.Bytes)), cmp.Or(strings.Join(x.Files, ", "), where))
	return err
}
