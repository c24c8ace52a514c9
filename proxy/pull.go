package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

const (
	// pullBlobs is how many blobs of one image are fetched at once.
	pullBlobs = 4
	// maxIndexDepth bounds indexes that name indexes.
	maxIndexDepth = 4
	// maxPulled bounds the manifests of one image: a client asks for one, and
	// nobody means to pull a thousand.
	maxPulled = 1000
)

// Pull brings an image here without a client: it is fetched, verified, stored
// and indexed as if one had asked for all of it, and shares the transfers of
// those that do. What is here already is not fetched again. It returns when the
// bytes are here; indexing goes on behind it. A store without room is an error.
func (p *Proxy) Pull(ctx context.Context, repo oci.Repo, ref oci.Reference, o oci.PullOptions) (oci.PulledImage, error) {
	up := p.routes().byName[repo.Upstream]
	if up == nil {
		return oci.PulledImage{}, oci.NewError(errcode.ErrorCodeNameUnknown, "no upstream %q is configured here", repo.Upstream)
	}
	x := &pull{p: p, up: up, repo: repo, o: o, seen: map[digest.Digest]bool{}}
	root, err := x.root(ctx, ref)
	if err == nil {
		x.got.Root = root
		err = x.manifest(ctx, root, attached{}, 0)
	}
	if err != nil {
		return x.got, manifestError(repo, ref, err)
	}
	if err := x.known(ctx); err != nil {
		return x.got, err
	}
	err = x.blobs(ctx)
	return x.got, err
}

// known is what is done between the manifests and the blobs.
func (x *pull) known(ctx context.Context) error {
	if x.o.Known == nil && (!x.o.Strict || len(x.o.Platforms) == 0) {
		return nil
	}
	if x.unkept != nil { // there are no rows to go on from
		return x.unkept
	}
	if err := x.onlyConfig(ctx); err != nil {
		return err
	}
	if err := x.otherPlatform(ctx); err != nil || x.o.Known == nil {
		return err
	}
	return x.o.Known(ctx, x.got)
}

// onlyConfig brings the config of an image that is no index, where it matters
// what that is for.
func (x *pull) onlyConfig(ctx context.Context) error {
	if len(x.o.Platforms) == 0 || x.config == nil || len(x.got.Blobs) == 0 {
		return nil
	}
	err := x.blob(ctx, *x.config)
	x.now = oci.PullProgress{} // counting begins with all that there is
	if err != nil {
		return blobError(x.config.Digest, err)
	}
	return nil
}

// pull is one Pull at work.
type pull struct {
	p    *Proxy
	up   *Upstream
	repo oci.Repo
	o    oci.PullOptions
	seen map[digest.Digest]bool // manifests and blobs that are in got
	got  oci.PulledImage

	config *v1.Descriptor // of the root, where that is an image

	unkept error // a manifest was not stored, for want of room

	mu  sync.Mutex // guards now, and calls of o.Progress
	now oci.PullProgress
}

// root finds what the name leads to now. Nobody waits for the answer with a
// container to start, so a slow upstream is waited for.
func (x *pull) root(ctx context.Context, ref oci.Reference) (v1.Descriptor, error) {
	if ref.Digest != "" {
		return v1.Descriptor{Digest: ref.Digest}, nil
	}
	if x.o.Here || x.up.Registry == nil {
		_, desc, err := x.p.knownTag(ctx, x.repo, ref.Tag)
		return desc, err
	}
	patient := *x.up
	patient.TagTimeout = max(patient.TagTimeout, checkTime)
	if x.o.Fresh {
		patient.TagTTL = 0
	}
	var got found
	look := func() (found, error) { return x.p.manifestByTag(ctx, &patient, x.repo, ref.Tag, false) }
	err := patiently(ctx, func() (err error) {
		got, err = look()
		if err == nil && errors.Is(got.stale, upstream.ErrBudget) {
			look = func() (found, error) { return x.lookAgain(ctx, &patient, ref.Tag) }
			return got.stale
		}
		return err
	})
	if err == nil && got.stale != nil {
		x.got.Unchecked = got.stale.Error()
	}
	return got.desc, err
}

// manifest brings one manifest and notes what it names.
func (x *pull) manifest(ctx context.Context, d v1.Descriptor, at attached, depth int) error {
	if x.seen[d.Digest] {
		x.again(d.Digest, at)
		return nil
	}
	if depth > maxIndexDepth || len(x.got.Manifests) >= maxPulled {
		return oci.NewError(errcode.ErrorCodeManifestInvalid, "%s names too many manifests, or too deep", x.got.Root.Digest)
	}
	x.seen[d.Digest] = true
	m, desc, err := x.read(ctx, d.Digest)
	if err != nil {
		return err
	}
	desc.Platform, desc.Annotations, desc.ArtifactType = d.Platform, d.Annotations, d.ArtifactType
	if x.got.Root.Digest == desc.Digest {
		x.got.Root = desc
	}
	x.got.Manifests = append(x.got.Manifests, oci.PulledManifest{Descriptor: desc, Subject: at.subject, Tag: at.tag})
	if m.IsIndex() {
		err = x.index(ctx, m, depth)
	} else {
		x.image(m)
		if depth == 0 && at == (attached{}) && m.Config != nil && len(m.Config.URLs) == 0 {
			x.config = m.Config
		}
	}
	if err == nil && at == (attached{}) && x.o.Referrers {
		err = x.referrers(ctx, desc.Digest, depth)
	}
	return err
}

func (x *pull) read(ctx context.Context, d digest.Digest) (*oci.Manifest, v1.Descriptor, error) {
	var desc v1.Descriptor
	var body []byte
	if x.o.Here || x.up.Registry == nil {
		err := x.p.store.View(ctx, func(tx storage.Tx) (err error) {
			if ok, err := x.p.has(tx, x.repo, d, ""); err != nil || !ok {
				return errors.Join(err, fmt.Errorf("manifest %s in %s: %w", d, x.repo, storage.ErrNotFound))
			}
			desc, _, err = x.p.storedManifest(tx, d)
			return err
		})
		if err != nil {
			return nil, desc, err
		}
	} else {
		var got found
		err := patiently(ctx, func() (err error) {
			if got, err = x.p.manifestByDigest(ctx, x.up, x.repo, d, false); err == nil {
				got, err = x.p.withBody(ctx, x.up, x.repo, got)
			}
			return err
		})
		if err != nil {
			return nil, desc, err
		}
		switch err := got.filed(ctx); {
		case errors.Is(err, storage.ErrFull):
			x.unkept = err // its blobs will tell
		case err != nil:
			return nil, desc, err
		}
		desc, body = got.desc, got.body
		x.p.tellIndexer(ctx, x.repo, d) // one that was here before it listened, too
	}
	body, err := x.p.manifestBody(ctx, found{desc: desc, body: body})
	if err != nil {
		return nil, desc, err
	}
	m, err := oci.ParseManifest(body, desc.MediaType)
	return m, desc, err
}

// index goes on to the manifests that are wanted of an index: the images for
// the platforms, and what is attached to these in the way of BuildKit.
func (x *pull) index(ctx context.Context, m *oci.Manifest, depth int) error {
	wanted := map[digest.Digest]bool{}
	var other []string
	for i := range m.Manifests {
		d := &m.Manifests[i]
		if x.wants(d) {
			wanted[d.Digest] = true
		} else if oci.RealPlatform(d.Platform) {
			other = append(other, oci.PlatformName(*d.Platform))
		}
	}
	if missing := x.lacking(m.Manifests); missing != "" {
		return &oci.Error{Code: errcode.ErrorCodeManifestUnknown, Message: fmt.Sprintf("%s has no image for %s; it has %s",
			x.repo, missing, strings.Join(slices.Compact(other), ", "))}
	}
	for _, d := range m.Manifests {
		about := digest.Digest(d.Annotations["vnd.docker.reference.digest"])
		if !wanted[d.Digest] && !wanted[about] {
			x.got.LeftOut = append(x.got.LeftOut, d)
			continue
		}
		if err := x.manifest(ctx, d, attached{}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (x *pull) wants(d *v1.Descriptor) bool {
	if len(x.o.Platforms) == 0 || d.Platform == nil {
		return true
	}
	return slices.ContainsFunc(x.o.Platforms, func(p v1.Platform) bool { return oci.SamePlatform(p, *d.Platform) })
}

// lacking names the platforms of which an index has no image.
func (x *pull) lacking(ds []v1.Descriptor) string {
	var names []string
	for _, p := range x.o.Platforms {
		if !slices.ContainsFunc(ds, func(d v1.Descriptor) bool { return d.Platform == nil || oci.SamePlatform(p, *d.Platform) }) {
			names = append(names, oci.PlatformName(p))
		}
	}
	return strings.Join(names, ", ")
}

// image notes the blobs of an image manifest.
func (x *pull) image(m *oci.Manifest) {
	for _, d := range append(configOf(m), m.Layers...) {
		switch {
		case x.seen[d.Digest]:
		case len(d.URLs) > 0: // elsewhere, and not to be passed on
			x.got.LeftOut = append(x.got.LeftOut, d)
		default:
			x.got.Blobs = append(x.got.Blobs, v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		}
		x.seen[d.Digest] = true
	}
}

func configOf(m *oci.Manifest) []v1.Descriptor {
	if m.Config == nil {
		return nil
	}
	return []v1.Descriptor{*m.Config}
}

// blobs brings all blobs, a few at a time.
func (x *pull) blobs(ctx context.Context) error {
	for _, d := range x.got.Blobs {
		x.now.OfBlobs++
		x.now.OfBytes += d.Size
	}
	x.report(0, 0)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pullBlobs)
	for _, d := range x.got.Blobs {
		g.Go(func() error {
			err := patiently(ctx, func() error { return x.blob(ctx, d) })
			if errors.Is(err, storage.ErrFull) {
				return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusInsufficientStorage, Err: err, Message: fmt.Sprintf(
					"blob %s of %d bytes does not fit: the store is full of what may not go (storage.max_bytes, storage.min_free)", d.Digest, d.Size)}
			}
			if err != nil {
				return blobError(d.Digest, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// blob brings one blob: it is whole here when this returns nil.
func (x *pull) blob(ctx context.Context, d v1.Descriptor) error {
	for {
		err := x.blobOnce(ctx, d)
		if !errors.Is(err, errCame) && !errors.Is(err, errPurged) { // else it is brought anew
			return err
		}
	}
}

func (x *pull) blobOnce(ctx context.Context, d v1.Descriptor) error {
	st, err := x.p.known(ctx, x.repo, d.Digest)
	if err != nil {
		return err
	}
	if st.row != nil {
		if !st.entitled && (x.o.Here || x.up.Registry == nil) {
			return fmt.Errorf("blob %s in %s: %w", d.Digest, x.repo, storage.ErrNotFound)
		}
		if !st.entitled {
			if err := x.p.prove(ctx, x.up, x.repo, d.Digest, st); err != nil {
				return err
			}
		}
		x.report(1, st.row.Size)
		return nil
	}
	if x.o.Here || x.up.Registry == nil {
		return fmt.Errorf("blob %s of %s: %w", d.Digest, x.repo, storage.ErrNotFound)
	}
	if x.o.Gate != nil {
		if err := x.o.Gate(ctx); err != nil {
			return err
		}
	}
	return x.fetch(ctx, d, st)
}

// fetch follows the blob's fill to its end, without reading a byte of it.
func (x *pull) fetch(ctx context.Context, d v1.Descriptor, st stored) error {
	src, err := x.p.fillSource(ctx, x.up, x.repo, d.Digest, st, nil)
	if err != nil {
		return err
	}
	defer src.close()
	if src.unkept != nil {
		return src.unkept
	}
	if err := x.wantSize(src.size(), d); err != nil {
		return err
	}
	t := src.t // of a whole one
	t.keeps = true
	for {
		end, err := t.ready(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errPurged) {
			x.report(0, -t.pos)
		}
		if err != nil {
			return err
		}
		x.mu.Lock()
		x.got.Fetched += end - t.pos
		x.mu.Unlock()
		x.report(0, end-t.pos)
		t.pos = end
	}
	if _, err := x.p.store.Stat(ctx, d.Digest); err != nil { // its digest was right, and it was not kept
		return fmt.Errorf("keep blob %s: %w", d.Digest, errors.Join(err, storage.ErrFull))
	}
	x.report(1, 0)
	return nil
}

// report adds to what is done and tells.
func (x *pull) report(blobs int, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now.Blobs += blobs
	x.now.Bytes += bytes
	if x.o.Progress != nil {
		x.o.Progress(x.now)
	}
}
