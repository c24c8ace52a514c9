package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

type indexCreateFlags struct {
	spanSize, minLayerSize int64
	platforms              []string
	allPlatforms           bool
	output                 string
	storeFlags
}

func newIndexCreateCommand() *cobra.Command {
	flags := indexCreateFlags{minLayerSize: 10 << 20}
	cmd := &cobra.Command{
		Use:   "create IMAGE|PATTERN|LAYOUT[:TAG]",
		Short: "Index an image, many at an upstream, or one in an OCI layout",
		Long: `Index an image: build the zTOC of each layer that is large enough and may have
one, and make the image's SOCI index of them. Where the soci command line fails
a whole image over one layer, this one leaves the layer out.

A running server pulls an image that it has not, indexes it and lists the index
as a referrer of the image. It does so from then on, whatever its rules say, in
the repository that is named, and again where index rm took it away. Sizes that
are not given are those of the rule; those that are go before it, for the image
wherever it is, since its layers are indexed once; where they leave none of them,
it is said which repositories the v1 index is no longer offered in, and what stays
at their upstreams. The same command without sizes drops them. Where no server runs, what is whole in the store is indexed.

A pattern, as index.rules have them (ghcr.io/acme/**, redis:7*), is of all images of
one upstream that match it: by its catalog where it has one, else those that are
known here. A job of the running server finds them, has those that a rule wants
fetched and indexed in the background, as the rule says, and goes on after a
restart; see sociable jobs. It fails where no image matches that a rule wants.

In an OCI layout, zTOCs and index are written into the layout, and index.json
lists the index. Of several platforms, each that has a layer to index gets an
index; one that has none makes the command fail when the others are through.`,
		Example: `  sociable index create redis:7 --min-layer-size 1MiB
  sociable index create 'ghcr.io/acme/**:v*'
  skopeo copy docker://redis:7 oci:redis && sociable index create redis --all-platforms -o redis-soci`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := flags.config.load(cmd)
			if err != nil {
				return err
			}
			if from, ok := openLayout(args[0]); ok {
				if cmd.Flags().Changed("data") {
					return usageError{error: fmt.Errorf("--data goes with an image in a store: %s is an OCI layout", args[0])}
				}
				return createIndexes(cmd, from, cfg.Index.limits(), flags)
			}
			if flags.config.file != "" {
				flags.dataDir = cfg.Storage.Path // --data has been taken over
			}
			if strings.Contains(args[0], "*") {
				return createMany(cmd, args[0], flags)
			}
			return createInStore(cmd, args[0], cfg, flags)
		},
	}
	flags.register(cmd)
	cmd.Flags().Lookup("config").Usage = "the store is that of the configuration in `FILE`; index.max_* and rules, too, for a layout or where no server runs"
	cmd.Flags().StringArrayVarP(&flags.platforms, "platform", "p", nil, "index the image for `OS/ARCHITECTURE` (repeatable; this machine's)")
	cmd.Flags().BoolVar(&flags.allPlatforms, "all-platforms", false, "index the images for all platforms")
	spanSizeFlag(cmd, &flags.spanSize)
	cmd.Flags().Var(bytesFlag{&flags.minLayerSize}, "min-layer-size", "leave out layers below this `SIZE`, whatever the rule says")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "of a layout: write into the layout `DIR` instead, made where it is missing")
	return cmd
}

func createIndexes(cmd *cobra.Command, from layout, limits indexer.Limits, flags indexCreateFlags) error {
	if err := checkSpanSize(flags.spanSize); err != nil {
		return err
	}
	if _, err := platformNames(flags.platforms); err != nil {
		return err
	}
	images, err := from.images(flags.platforms, flags.allPlatforms, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return err
	}
	to, list := from, []IndexInfo{}
	if flags.output != "" {
		_, err := os.Stat(flags.output)
		if fresh := errors.Is(err, fs.ErrNotExist); fresh {
			defer func() {
				if !slices.ContainsFunc(list, func(x IndexInfo) bool { return x.Index != "" }) {
					_ = os.RemoveAll(flags.output) // nothing came of it
				}
			}()
		}
		if to, err = makeLayout(flags.output); err != nil {
			return err
		}
	}
	for _, image := range images {
		c := creation{cmd: cmd, from: from, to: to, limits: limits, flags: flags}
		x, err := c.index(image)
		if err != nil { // what was made before it is there all the same
			return errors.Join(err, reportCreated(cmd.OutOrStdout(), list, flags.json))
		}
		list = append(list, x)
	}
	return reportCreated(cmd.OutOrStdout(), list, flags.json)
}

// reportCreated prints what was made; an image without an index is an error.
func reportCreated(w io.Writer, list []IndexInfo, asJSON bool) error {
	if err := printCreated(w, list, asJSON); err != nil {
		return err
	}
	var none []string
	for _, x := range list {
		if x.Index == "" {
			name := x.Manifest.String()
			if x.Platform != "" {
				name += " for " + x.Platform
			}
			none = append(none, name)
		}
	}
	if len(none) > 0 {
		return fmt.Errorf("no layer of %s has a zTOC", strings.Join(none, ", "))
	}
	return nil
}

func printCreated(w io.Writer, list []IndexInfo, asJSON bool) error {
	if asJSON {
		return printJSON(w, list)
	}
	for i, x := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printIndex(w, x); err != nil {
			return err
		}
	}
	return nil
}

// creation makes the index of one image.
type creation struct {
	cmd      *cobra.Command
	from, to layout
	limits   indexer.Limits
	flags    indexCreateFlags
}

// index builds what is missing and writes the index, if the image has one.
func (c *creation) index(image v1.Descriptor) (IndexInfo, error) {
	x := IndexInfo{Repository: c.from.dir, Manifest: image.Digest, Layers: []LayerInfo{}}
	if image.Platform != nil {
		x.Platform = oci.PlatformName(*image.Platform)
	}
	m, err := c.from.manifest(image)
	if err != nil {
		return x, err
	}
	if m.IsSOCI() {
		return x, fmt.Errorf("%s carries a SOCI index already", image.Digest)
	}
	var entries []indexer.IndexLayer
	for _, l := range m.Layers {
		if l.MediaType == oci.MediaTypeSOCIPrefetch {
			continue
		}
		info, err := c.layer(l, x.Layers)
		if err != nil {
			return x, err
		}
		x.Layers = append(x.Layers, info)
		if info.ZTOC != "" {
			entries = append(entries, indexer.IndexLayer{Layer: l, ZTOC: info.ZTOC, ZTOCSize: info.ZTOCSize, SpanSize: c.flags.spanSize})
		}
	}
	if len(entries) == 0 {
		return x, nil
	}
	image.MediaType = m.MediaType
	body, err := indexer.EncodeIndexV1(image, entries)
	if err != nil {
		return x, err
	}
	x.Size = int64(len(body))
	if _, err := c.to.put(oci.EmptyJSON); err != nil {
		return x, err
	}
	if x.Index, err = c.to.put(body); err != nil {
		return x, err
	}
	x.Created = c.to.made(x.Index)
	return x, c.file(x, image)
}

// file lists the index, with what is not in it and why, and sees to it that the
// manifest that it is about is in the layout, too.
func (c *creation) file(x IndexInfo, image v1.Descriptor) error {
	d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: x.Index, Size: x.Size, ArtifactType: oci.MediaTypeSOCIIndexV1}
	skipped := map[digest.Digest]string{}
	for _, l := range x.Layers {
		if l.ZTOC == "" {
			skipped[l.Digest] = l.Reason
		}
	}
	if len(skipped) > 0 {
		why, err := json.Marshal(skipped)
		if err != nil {
			return err
		}
		d.Annotations = map[string]string{annotationSkipped: string(why)}
	}
	if c.to.dir != c.from.dir {
		d.Platform = image.Platform // which the image's own index is not there to say
		body, err := os.ReadFile(c.from.blob(image.Digest))
		if err == nil && image.Digest.Algorithm() == digest.SHA256 {
			_, err = c.to.put(body)
		}
		if err != nil {
			return err
		}
	}
	return c.to.refer(d, image.Digest)
}

// layer builds a layer's zTOC, or says why it has none. An error is about this
// machine, or about a layer that is not what its digest says.
func (c *creation) layer(l v1.Descriptor, before []LayerInfo) (LayerInfo, error) {
	if i := slices.IndexFunc(before, func(b LayerInfo) bool { return b.Digest == l.Digest && b.MediaType == l.MediaType }); i >= 0 {
		return before[i], nil
	}
	info := LayerInfo{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, State: storage.LayerSkipped}
	compression, skip := indexer.Compression(l.MediaType)
	if l.Size < c.flags.minLayerSize && !strings.HasPrefix(skip, indexer.ReasonUnsupportedType) {
		skip = fmt.Sprintf("%s: %d bytes, %d wanted", indexer.ReasonTooSmall, l.Size, c.flags.minLayerSize)
	}
	if skip != "" {
		info.Reason = skip
		return info, nil
	}
	r, err := c.build(l, compression)
	var refused *ztoc.Error
	switch {
	case errors.As(err, &refused):
		info.Reason = c.limits.Refusal(compression, err)
		return info, nil
	case err != nil:
		return info, err
	}
	defer func() { _ = r.Close() }() // it has been written
	if err := r.CheckClient(); err != nil {
		info.Reason = indexer.ReasonClientRejects + ": " + err.Error()
		return info, nil
	}
	info.State, info.ZTOC, info.ZTOCSize, info.Spans = storage.LayerIndexed, r.Digest, r.Size, r.Spans
	return info, writeFile(c.to.blob(r.Digest), r)
}

// build reads a layer and checks that it is what it is called.
func (c *creation) build(l v1.Descriptor, compression ztoc.Compression) (*ztoc.Result, error) {
	f, err := os.Open(c.from.blob(l.Digest))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bar := newProgress(c.cmd, l.Size, "indexing "+shortDigest(l.Digest))
	defer bar.end()
	src, right := bar.reader(f), func(r *ztoc.Result) bool { return r.LayerDigest == l.Digest }
	if l.Digest.Algorithm() != digest.SHA256 {
		sum := l.Digest.Verifier()
		src, right = io.TeeReader(src, sum), func(*ztoc.Result) bool { return sum.Verified() }
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != l.Size {
		err = fmt.Errorf("layer %s in layout %s is damaged: it has %d bytes, not %d", l.Digest, c.from.dir, fi.Size(), l.Size)
	}
	if err != nil {
		return nil, err
	}
	o := c.limits.Options(fi.Size())
	o.Compression = compression
	r, err := buildFrom(src, c.flags.spanSize, o)
	if errors.As(err, new(*ztoc.Error)) { // of these bytes, which may not be the layer's
		if err := c.intact(l, f); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if !right(r) {
		return nil, errors.Join(c.damaged(l), r.Close())
	}
	return r, nil
}

// intact reads a layer from its beginning, and says whether it is what it is
// called.
func (c *creation) intact(l v1.Descriptor, f *os.File) error {
	sum := l.Digest.Verifier()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, l.Size)); err != nil {
		return err
	}
	if !sum.Verified() {
		return c.damaged(l)
	}
	return nil
}

func (c *creation) damaged(l v1.Descriptor) error {
	return fmt.Errorf("layer %s in layout %s is damaged: its bytes are not those of its digest", l.Digest, c.from.dir)
}
