package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// errChanged: the rows changed between planning and writing.
var errChanged = errors.New("rows changed meanwhile")

// publication is what is to be done about an image's index.
type publication struct {
	img    storage.ImageRow
	due    bool   // something is
	body   []byte // the index; nil: none is to be listed
	digest digest.Digest

	learned *learnedIndex // nil: nothing was learnt
}

// plan looks whether all layers of an image are through, and which index
// follows. The bytes are a function of rows alone.
func (x *Indexer) plan(tx storage.Tx, manifest digest.Digest) (publication, error) {
	img, err := tx.Image(manifest)
	if err != nil {
		return publication{}, ignoreNotFound(err)
	}
	p := publication{img: img}
	if len(img.Repos) == 0 || x.opt.OnlyAsked && img.Asked == nil { // it was deleted, or nobody wants it
		return p, nil
	}
	var layers []IndexLayer
	for i := range img.Layers {
		l := &img.Layers[i]
		if waits, err := waitsForLayer(tx, &img, l.Descriptor.Digest); waits || err != nil {
			return p, err
		}
		if l.SpanSize == 0 {
			continue
		}
		row, err := tx.Layer(l.Descriptor.Digest, l.SpanSize)
		if errors.Is(err, storage.ErrNotFound) || err == nil && row.State == storage.LayerWanted {
			return p, nil // not through: whatever is listed stays
		}
		if err != nil {
			return p, err
		}
		if row.State == storage.LayerIndexed {
			layers = append(layers, IndexLayer{
				Layer: l.Descriptor, ZTOC: row.ZTOC, ZTOCSize: row.ZTOCSize, SpanSize: l.SpanSize,
			})
		}
	}
	if len(layers) > 0 && x.offersV1Anywhere(&img) {
		if p.body, err = EncodeIndexV1(img.Manifest, layers); err != nil {
			return p, err
		}
		p.digest = digest.FromBytes(p.body)
		if p.learned, err = x.planLearned(tx, &img, layers); err != nil {
			return p, err
		}
	}
	p.due = p.digest != img.Index || p.learned.digest() != learnedDigest(&img)
	return p, nil
}

// waitsForLayer reports whether the index that came with an image in a bundle is
// to stay as it is: of this layer there are some spans alone. Whatever the rules
// want is found out when it is here.
func waitsForLayer(tx storage.Tx, img *storage.ImageRow, layer digest.Digest) (bool, error) {
	if img.Index == "" || img.WithdrawnEverywhere() {
		return false, nil
	}
	if _, err := tx.Imported(layer); err != nil {
		return false, ignoreNotFound(err)
	}
	_, err := tx.Blob(layer)
	return errors.Is(err, storage.ErrNotFound), ignoreNotFound(err)
}

// publish lists the index of an image, replaces it, or takes it off the list,
// whichever is due.
func (x *Indexer) publish(ctx context.Context, manifest digest.Digest) error {
	for {
		var p publication
		err := x.store.View(ctx, func(tx storage.Tx) (err error) {
			p, err = x.plan(tx, manifest)
			return err
		})
		if err == nil && p.due {
			err = x.carryOut(ctx, &p)
		}
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("publish SOCI index of %s: %w", manifest, err)
		}
		return nil
	}
}

// carryOut stores the bytes first; the rows that make them found come last.
func (x *Indexer) carryOut(ctx context.Context, p *publication) error {
	now := x.now().UTC()
	var done bool
	write := func(tx storage.Tx) error {
		done = false
		q, err := x.plan(tx, p.img.Manifest.Digest)
		if err != nil {
			return err
		}
		// Also where the image was purged meanwhile: with the transaction its bytes'
		// row is not written, so that nothing is left of it.
		if q.digest != p.digest || q.learned.digest() != p.learned.digest() {
			return errChanged
		}
		if !q.due {
			return nil
		}
		done = true
		if err := q.writeLearned(tx, now); err != nil || q.digest == q.img.Index {
			return err
		}
		if err := q.write(tx, now); err != nil {
			return err
		}
		return x.tellIndexed(tx, &q)
	}
	if err := x.putPublication(ctx, p, now, write); err != nil || !done {
		return err
	}
	x.tellPublished(ctx, p)
	return nil
}

// putPublication stores the bytes that are new, and then what write writes.
func (x *Indexer) putPublication(ctx context.Context, p *publication, now time.Time, write func(storage.Tx) error) error {
	if err := x.putLearned(ctx, p, now); err != nil {
		return err
	}
	if p.body == nil || p.digest == p.img.Index { // or it is offered in another form alone
		return x.store.Update(ctx, write)
	}
	if err := x.putEmptyConfig(ctx, now); err != nil {
		return err
	}
	row := storage.BlobRow{
		Digest: p.digest, Size: int64(len(p.body)), Kind: storage.KindIndex, Of: p.img.Manifest.Digest,
		Created: now, Accessed: now,
	}
	return x.store.Put(ctx, row, p.body, write)
}

func (x *Indexer) tellPublished(ctx context.Context, p *publication) {
	fields := []any{"repo", firstRepo(p.img.Repos).String(), "digest", p.img.Manifest.Digest,
		"index", p.digest, "replaces", p.img.Index, "layers", len(p.img.Layers)}
	switch {
	case p.body == nil:
		x.log.InfoContext(ctx, "index withdrawn", fields...)
	case p.digest == p.img.Index && p.learned == nil:
		x.log.InfoContext(ctx, "index offered without what was learnt", fields...)
	case p.digest == p.img.Index:
		x.log.InfoContext(ctx, "index offered with what was learnt", append(fields, "learned", p.learned.digest())...)
	default:
		x.m.published.Inc()
		x.log.InfoContext(ctx, "index built", fields...)
	}
}

// write puts the rows of p; its bytes are stored.
func (p *publication) write(tx storage.Tx, now time.Time) error {
	subject := p.img.Manifest.Digest
	if old := p.img.Index; old != "" {
		// In one transaction with its successor: there are never two, nor none.
		err := errors.Join(tx.DeleteReferrer(subject, old), tx.PutRetired(storage.RetiredRow{Digest: old, Since: now}))
		if err != nil {
			return err
		}
	}
	img := p.img
	img.Index, img.IndexSize, img.Published = p.digest, int64(len(p.body)), now
	if p.body == nil {
		img.Published = time.Time{}
		return tx.PutImage(img)
	}
	m, err := oci.ParseManifest(p.body, v1.MediaTypeImageManifest)
	if err == nil {
		err = tx.DeleteRetired(p.digest)
	}
	if err = errors.Join(err, shareConfig(tx, img.Repos...)); err != nil {
		return err
	}
	if err := tx.PutManifest(storage.ManifestRow{Digest: p.digest, Size: img.IndexSize, Manifest: *m}); err != nil {
		return err
	}
	err = tx.PutReferrer(storage.ReferrerRow{Subject: subject, Descriptor: v1.Descriptor{
		MediaType: m.MediaType, Digest: p.digest, Size: img.IndexSize,
		ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	}})
	if err != nil {
		return err
	}
	return tx.PutImage(img)
}

// shareConfig gives repositories the right to the config of SOCI indexes: who may read
// an index may read that.
func shareConfig(tx storage.Tx, repos ...oci.Repo) error {
	for _, repo := range repos {
		if err := tx.PutRight(repo, oci.EmptyDigest); err != nil {
			return err
		}
	}
	return nil
}

// putEmptyConfig sees to it that the config that every SOCI index names can be
// pulled. Its kind keeps it from being evicted.
func (x *Indexer) putEmptyConfig(ctx context.Context, now time.Time) error {
	var have bool
	err := x.store.View(ctx, func(tx storage.Tx) error {
		row, err := tx.Blob(oci.EmptyDigest)
		have = err == nil && row.Kind == storage.KindIndex
		return ignoreNotFound(err)
	})
	if err != nil || have {
		return err
	}
	return x.store.Put(ctx, storage.BlobRow{
		Digest: oci.EmptyDigest, Size: int64(len(oci.EmptyJSON)), Kind: storage.KindIndex, Created: now, Accessed: now,
	}, oci.EmptyJSON, nil)
}

// publishImages publishes every image that has the layer, where that is due. A
// publication that goes wrong is tried again later; only the list itself can
// be the error.
func (x *Indexer) publishImages(ctx context.Context, layer digest.Digest) error {
	var images []digest.Digest
	err := x.store.View(ctx, func(tx storage.Tx) error {
		images = images[:0]
		return tx.ImagesOf(layer, func(img storage.ImageRow) error {
			images = append(images, img.Manifest.Digest)
			return nil
		})
	})
	for _, d := range images {
		x.publishOrRetry(ctx, d)
	}
	return err
}

func (x *Indexer) publishOrRetry(ctx context.Context, manifest digest.Digest) {
	err := x.publish(ctx, manifest)
	if err == nil {
		err = x.considerConversions(ctx, manifest)
	}
	if err == nil {
		return
	}
	if ctx.Err() == nil {
		x.log.WarnContext(ctx, "index not published, trying again", "digest", manifest, "err", err)
	}
	x.mu.Lock()
	x.retry[manifest] = struct{}{}
	x.mu.Unlock()
	wake(x.toRetry)
}

// retryPause is how long a publication that went wrong waits.
const retryPause = 5 * time.Second

// republish tries again what publishOrRetry left.
func (x *Indexer) republish(ctx context.Context) error {
	for {
		select {
		case <-x.toRetry:
		case <-ctx.Done():
			return nil
		}
		pause(ctx, retryPause)
		x.mu.Lock()
		again := x.retry
		x.retry = map[digest.Digest]struct{}{}
		x.mu.Unlock()
		for d := range again {
			x.publishOrRetry(ctx, d)
		}
	}
}
