package web

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// CreateRequest asks for the SOCI index of an image.
type CreateRequest struct {
	Name      string   `json:"name"`                // in any of its spellings, or the digest of its manifest
	Platforms []string `json:"platforms,omitempty"` // of an image index; none: all
	OrOnly    bool     `json:"or_only,omitempty"`   // the image of a name that means no image index is taken, whatever it is for
	// What is not given is as the rules have it, and what was given before is
	// forgotten.
	SpanSize     int64  `json:"span_size,omitempty"`
	MinLayerSize *int64 `json:"min_layer_size,omitempty"`
}

// CreateEvent is one line of the answer: how far it is, and last the indexes or
// what went wrong, or both.
type CreateEvent struct {
	Progress *CreateProgress `json:"progress,omitempty"`
	Indexes  []Index         `json:"indexes,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// CreateProgress is how far it is. What is to be done grows while it gets known.
type CreateProgress struct {
	Step    string `json:"step"` // StepFetch or StepIndex
	Bytes   int64  `json:"bytes"`
	OfBytes int64  `json:"of_bytes"`
}

// The steps of a CreateProgress.
const (
	StepFetch = "fetch"
	StepIndex = "index"
)

// Found are image manifests that are stored.
type Found struct {
	Repo      oci.Repo
	Manifests []digest.Digest
	Only      bool // the name means this image itself, and no index of images
}

// Finder finds the images that a name means, for these platforms or, without
// any, all. It calls known once it knows them, ends with its error, and then sees
// to it that their layers are here, as far as it can.
type Finder func(ctx context.Context, word string, platforms []v1.Platform, known func(context.Context, Found) error, tell func(bytes, of int64)) error

// Asker makes indexes in the background; *indexer.Indexer is one.
type Asker interface {
	// Want notes that an index of an image is to be made, in this way.
	Want(ctx context.Context, repo oci.Repo, row storage.ManifestRow, how storage.Asked) error
	// Progress is how many bytes of a layer were read for it, 0 when none is at work.
	Progress(layer digest.Digest, spanSize int64) int64
	// Offers reports whether an index of an image is for those who pull it from repo.
	Offers(tx storage.Tx, repo oci.Repo, subject digest.Digest) (bool, error)
}

// Creator makes SOCI indexes for an operator.
type Creator struct {
	Store *storage.Store
	Find  Finder
	Index Asker
}

// What a span of an image may have of uncompressed bytes: with fewer a zTOC
// outgrows its layer, with more a read of one byte fetches half the image.
const (
	MinSpanSize = 4 << 10
	MaxSpanSize = 1 << 30
)

// errNotHere: layers are neither in the store nor on their way.
var errNotHere = errors.New("not in the store: a running server fetches them")

// errUnlisted: nothing is left to do for the index, and it is not there.
var errUnlisted = errors.New("all its layers are through, and no index of them is listed: sociable config explain IMAGE says what holds in each repository that has it")

// errNotOffered: nor will it be listed where it was asked for.
var errNotOffered = errors.New("none is offered there: sociable config explain IMAGE says why")

// publishedWithin is how soon an index is listed when its last layer is through, on
// whatever medium.
const publishedWithin = time.Minute

// pollEvery is how often it is looked whether an index is there.
const pollEvery = 50 * time.Millisecond

// Create finds an image, has it indexed and waits for that. What is asked for
// stays asked for when ctx ends first. Errors are those of Find and of Want, or
// say which layer cannot be indexed; the indexes tell how far it came.
func (c Creator) Create(ctx context.Context, q CreateRequest, tell func(CreateProgress)) ([]Index, error) {
	if q.SpanSize != 0 && (q.SpanSize < MinSpanSize || q.SpanSize > MaxSpanSize) || q.MinLayerSize != nil && *q.MinLayerSize < 0 {
		return nil, oci.NewError(errcode.ErrorCodeNameInvalid, "a span has %d to %d bytes, and a layer none at least", MinSpanSize, MaxSpanSize)
	}
	platforms, err := oci.ParsePlatforms(q.Platforms)
	if err != nil {
		return nil, oci.NewError(errcode.ErrorCodeNameInvalid, "%v", err)
	}
	var found Found
	var ends map[digest.Digest]*Ended
	known := func(ctx context.Context, f Found) error { // before the layers come, so that they are read as asked for, and once
		found = f
		if f.Only && !q.OrOnly {
			if err := c.isFor(ctx, q.Name, f, platforms); err != nil {
				return err
			}
		}
		ends, err = c.wantAndTell(ctx, f, storage.Asked{SpanSize: q.SpanSize, MinLayerSize: q.MinLayerSize})
		return err
	}
	err = c.Find(ctx, q.Name, platforms, known, func(n, of int64) { tell(CreateProgress{StepFetch, n, of}) })
	switch {
	case err == nil:
		err = c.wait(ctx, found, tell)
	case len(ends) == 0:
		return nil, err
	}
	var list []Index
	for _, d := range found.Manifests {
		x, e := IndexOf(context.WithoutCancel(ctx), c.Store, d, c.Index.Offers)
		if e != nil {
			return nil, errors.Join(err, e)
		}
		x.BeginWith(found.Repo.String())
		x.Ended = ends[d]
		list = append(list, x)
	}
	return list, err
}

// isFor sees that a single image is for one of the platforms, as far as its
// config is here and says what it is for.
func (c Creator) isFor(ctx context.Context, name string, f Found, platforms []v1.Platform) error {
	if len(platforms) == 0 {
		return nil
	}
	for _, d := range f.Manifests {
		var m storage.ManifestRow
		err := c.Store.View(ctx, func(tx storage.Tx) (err error) {
			m, err = tx.Manifest(d)
			return err
		})
		if err != nil {
			return fmt.Errorf("manifest %s: %w", d, err)
		}
		if m.Manifest.Config == nil {
			continue
		}
		var x Index
		if err := x.readPlatform(ctx, c.Store, m.Manifest.Config.Digest); err != nil {
			return err
		}
		is := func(p v1.Platform) bool { return oci.PlatformName(p) == x.Platform }
		if p, err := oci.ParsePlatform(x.Platform); err == nil {
			is = func(w v1.Platform) bool { return oci.SamePlatform(p, w) }
		}
		if x.Platform != "" && !slices.ContainsFunc(platforms, is) {
			return oci.NewError(errcode.ErrorCodeManifestUnknown, "%s has no image for %s: its one is for %s", name, oci.PlatformName(platforms[0]), x.Platform)
		}
	}
	return nil
}

// want asks for the index of each image.
func (c Creator) want(ctx context.Context, f Found, how storage.Asked) error {
	for _, d := range f.Manifests {
		var row storage.ManifestRow
		err := c.Store.View(ctx, func(tx storage.Tx) (err error) {
			row, err = tx.Manifest(d)
			return err
		})
		if err == nil {
			err = c.Index.Want(ctx, f.Repo, row, how)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits until all that can be indexed is, and is listed.
func (c Creator) wait(ctx context.Context, f Found, tell func(CreateProgress)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var settled time.Time // since when all layers are through; zero: they are not
	for {
		l := look{asker: c.Index, repo: f.Repo, p: CreateProgress{Step: StepIndex}, published: true, settled: true}
		err := c.Store.View(ctx, func(tx storage.Tx) error { return l.at(tx, f.Manifests) })
		if err != nil {
			return err
		}
		tell(l.p)
		if len(l.waiting) == 0 && l.published {
			return nil
		}
		switch {
		case !l.settled:
			settled = time.Time{}
		case settled.IsZero():
			settled = time.Now()
		case time.Since(settled) > publishedWithin:
			return errUnlisted
		}
		var missing []string
		for _, d := range l.waiting {
			if _, err := c.Store.Stat(ctx, d); errors.Is(err, storage.ErrNotFound) {
				missing = append(missing, d.String())
			} else if err != nil {
				return err
			}
		}
		if len(missing) > 0 && len(missing) == len(l.waiting) {
			return fmt.Errorf("layers %s: %w", strings.Join(missing, ", "), errNotHere)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the index: %w", context.Cause(ctx))
		}
	}
}

// look is how far some images are at one moment.
type look struct {
	asker     Asker
	repo      oci.Repo // in which it was asked for
	p         CreateProgress
	waiting   []digest.Digest // layers that nobody works on
	published bool            // each image's index is that of its layers
	settled   bool            // no layer is to be indexed any more
}

// at looks. An error says that a layer went wrong and is tried again later.
func (l *look) at(tx storage.Tx, manifests []digest.Digest) error {
	for _, d := range manifests {
		img, err := tx.Image(d)
		if err != nil {
			return err
		}
		var ztocs []digest.Digest
		for i := range img.Layers {
			ztoc, err := l.layer(tx, &img.Layers[i])
			if err != nil {
				return err
			}
			if ztoc != "" {
				ztocs = append(ztocs, ztoc)
			}
		}
		ok, err := lists(tx, img.Index, ztocs)
		if err == nil && !ok && len(ztocs) > 0 {
			err = l.offered(tx, d)
		}
		if err != nil {
			return err
		}
		l.published = l.published && ok
	}
	return nil
}

// offered is errNotOffered where nothing is to be waited for.
func (l *look) offered(tx storage.Tx, d digest.Digest) error {
	ok, err := l.asker.Offers(tx, l.repo, d)
	if err == nil && !ok {
		err = fmt.Errorf("index of %s in %s: %w", d, l.repo, errNotOffered)
	}
	return err
}

// layer looks at one layer, and gives its zTOC.
func (l *look) layer(tx storage.Tx, il *storage.ImageLayer) (digest.Digest, error) {
	if il.SpanSize == 0 {
		return "", nil
	}
	d := il.Descriptor
	l.p.OfBytes += d.Size
	row, err := tx.Layer(d.Digest, il.SpanSize)
	if err == nil && row.State != storage.LayerWanted {
		l.p.Bytes += d.Size
		return row.ZTOC, nil
	}
	if ignoreNotFound(err) != nil {
		return "", err
	}
	l.published, l.settled = false, false
	if n := l.asker.Progress(d.Digest, il.SpanSize); n > 0 {
		l.p.Bytes += min(n, d.Size)
		return "", nil
	}
	l.waiting = append(l.waiting, d.Digest)
	job, err := tx.Job(d.Digest, il.SpanSize)
	if err == nil && job.Cancelled {
		return "", fmt.Errorf("layer %s is not indexed: its job was cancelled meanwhile", d.Digest)
	}
	if err == nil && job.Attempts > 0 {
		return "", fmt.Errorf("layer %s is not indexed, and tried again later: %s", d.Digest, job.LastError)
	}
	return "", ignoreNotFound(err)
}

// lists reports whether an index names exactly these zTOCs; "" is one of none.
func lists(tx storage.Tx, index digest.Digest, ztocs []digest.Digest) (bool, error) {
	if index == "" || len(ztocs) == 0 {
		return index == "" && len(ztocs) == 0, nil
	}
	row, err := tx.Manifest(index)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	return slices.EqualFunc(row.Manifest.Layers, ztocs, func(l v1.Descriptor, d digest.Digest) bool { return l.Digest == d }), nil
}

// StoredImages is a Finder that knows what is in the store, and fetches nothing.
func StoredImages(s *storage.Store) Finder {
	return func(ctx context.Context, word string, platforms []v1.Platform, known func(context.Context, Found) error, _ func(int64, int64)) error {
		var out Found
		err := s.View(ctx, func(tx storage.Tx) error {
			x, err := Resolve(tx, word)
			if err != nil {
				return err
			}
			out.Repo = x.Repo
			m, err := tx.Manifest(x.Digest)
			if err != nil {
				return fmt.Errorf("manifest %s: %w", x.Digest, err)
			}
			if !m.Manifest.IsIndex() {
				out.Manifests, out.Only = []digest.Digest{x.Digest}, true
				return nil
			}
			out.Manifests, err = imagesOf(&m.Manifest, x.Reference, platforms)
			return err
		})
		if err != nil {
			return err
		}
		return known(ctx, out)
	}
}

// imagesOf are the images of an index for these platforms or, without any, for
// all that are real.
func imagesOf(m *oci.Manifest, name string, platforms []v1.Platform) (ds []digest.Digest, err error) {
	for _, d := range m.Manifests {
		if len(platforms) == 0 && oci.RealPlatform(d.Platform) {
			ds = append(ds, d.Digest)
		}
	}
	for _, p := range platforms {
		i := slices.IndexFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Platform != nil && oci.SamePlatform(*d.Platform, p) })
		if i < 0 {
			return nil, isNotHere("%s has no image for %s", name, oci.PlatformName(p))
		}
		ds = append(ds, m.Manifests[i].Digest)
	}
	return ds, nil
}
