package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// learnedIndex is the SOCI v1 index of an image with what was learnt.
type learnedIndex struct {
	body  []byte
	d     digest.Digest
	blobs []prefetchBlob
}

// prefetchBlob is a prefetch artifact. Two layers may have the same.
type prefetchBlob struct {
	desc v1.Descriptor
	body []byte
}

func (l *learnedIndex) digest() digest.Digest {
	if l == nil {
		return ""
	}
	return l.d
}

func learnedDigest(img *storage.ImageRow) digest.Digest {
	if img.Learned == nil {
		return ""
	}
	return img.Learned.Index
}

// Learnt says that what was learnt of an image's starts has changed: its index is
// offered with that, from then on. A failure is tried again.
func (x *Indexer) Learnt(ctx context.Context, manifest digest.Digest) {
	if !x.opt.Disabled {
		x.publishOrRetry(ctx, manifest)
	}
}

// planLearned gives the index of an image with what was learnt; nil: nothing was
// that its layers have.
func (x *Indexer) planLearned(tx storage.Tx, img *storage.ImageRow, layers []IndexLayer) (*learnedIndex, error) {
	if !x.opt.Learned {
		return nil, nil
	}
	blobs, err := learntOf(tx, img.Manifest.Digest, layers)
	if err != nil || len(blobs) == 0 {
		return nil, err
	}
	body, err := EncodeIndexV1With(img.Manifest, layers, descriptors(blobs))
	if err != nil {
		return nil, err
	}
	return &learnedIndex{body: body, d: digest.FromBytes(body), blobs: blobs}, nil
}

// learntOf gives the prefetch artifacts of an image, in the order of its layers.
func learntOf(tx storage.Tx, manifest digest.Digest, layers []IndexLayer) ([]prefetchBlob, error) {
	row, err := tx.Learn(manifest)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	return artifactsOf(tx, storage.TakenOf(row.Learnt), layers)
}

// artifactsOf gives the prefetch artifacts of what starts need, in the order of an
// image's layers, each of which is indexed.
func artifactsOf(tx storage.Tx, need []storage.TakenLayer, layers []IndexLayer) (out []prefetchBlob, err error) {
	for i := range layers {
		l := &layers[i]
		if len(need) == 0 {
			break
		}
		if slices.ContainsFunc(layers[:i], func(before IndexLayer) bool { return before.Layer.Digest == l.Layer.Digest }) {
			continue
		}
		at, err := tx.Layer(l.Layer.Digest, l.SpanSize)
		if err != nil {
			return nil, err
		}
		spans := spansIn(need, l, at.Spans)
		if len(spans) == 0 {
			continue
		}
		body, desc, err := EncodePrefetch(l.Layer.Digest, spans)
		if err != nil {
			return nil, err
		}
		out = append(out, prefetchBlob{desc, body})
	}
	return out, nil
}

// spansIn gives what is needed of a layer that has n spans.
func spansIn(need []storage.TakenLayer, l *IndexLayer, n int) (out []PrefetchSpans) {
	for i := range need {
		if need[i].Layer != l.Layer.Digest || need[i].SpanSize != l.SpanSize {
			continue
		}
		for _, r := range need[i].Runs {
			if first, last := max(r[0], 0), min(r[1], n-1); first <= last {
				out = append(out, PrefetchSpans{First: first, Last: last})
			}
		}
	}
	return out
}

func descriptors(blobs []prefetchBlob) []v1.Descriptor {
	out := make([]v1.Descriptor, 0, len(blobs))
	for i := range blobs {
		out = append(out, blobs[i].desc)
	}
	return out
}

// putPrefetch stores prefetch artifacts, which nothing names yet.
func (x *Indexer) putPrefetch(ctx context.Context, blobs []prefetchBlob, of digest.Digest, now time.Time) error {
	for i := range blobs {
		b := &blobs[i]
		err := x.store.Put(ctx, storage.BlobRow{
			Digest: b.desc.Digest, Size: b.desc.Size, Kind: storage.KindIndex, Of: of, Created: now, Accessed: now,
		}, b.body, unlessPurged(of))
		if err != nil {
			return fmt.Errorf("store prefetch artifact %s: %w", b.desc.Digest, err)
		}
	}
	return nil
}

// putLearned stores the bytes of an index with what was learnt.
func (x *Indexer) putLearned(ctx context.Context, p *publication, now time.Time) error {
	l := p.learned
	if l == nil || l.d == learnedDigest(&p.img) {
		return nil
	}
	if err := x.putPrefetch(ctx, l.blobs, p.img.Manifest.Digest, now); err != nil {
		return err
	}
	return x.store.Put(ctx, storage.BlobRow{
		Digest: l.d, Size: int64(len(l.body)), Kind: storage.KindIndex, Of: p.img.Manifest.Digest, Created: now, Accessed: now,
	}, l.body, unlessPurged(p.img.Manifest.Digest))
}

// unlessPurged keeps what was made of an image from being stored when that is gone.
func unlessPurged(image digest.Digest) func(storage.Tx) error {
	return func(tx storage.Tx) error {
		_, err := tx.Image(image)
		if errors.Is(err, storage.ErrNotFound) {
			return errChanged
		}
		return err
	}
}

// writeLearned has what was learnt offered, or something else, or nothing, from
// the transaction on; the bytes are stored.
func (p *publication) writeLearned(tx storage.Tx, now time.Time) error {
	was, l := p.img.Learned, p.learned
	if l.digest() == learnedDigest(&p.img) {
		return nil
	}
	if was != nil {
		if err := tx.PutRetired(storage.RetiredRow{Digest: was.Index, Since: now}); err != nil {
			return err
		}
	}
	p.img.Learned = nil
	if l == nil {
		return tx.PutImage(p.img)
	}
	needed := []digest.Digest{l.d}
	for i := range l.blobs {
		needed = append(needed, l.blobs[i].desc.Digest)
	}
	for _, d := range needed {
		if _, err := tx.Blob(d); errors.Is(err, storage.ErrNotFound) {
			return errChanged // collected before it was named
		} else if err != nil {
			return err
		}
	}
	m, err := oci.ParseManifest(l.body, v1.MediaTypeImageManifest)
	if err != nil {
		return err
	}
	p.img.Learned = &storage.LearnedIndex{Index: l.d, Size: int64(len(l.body)), Blobs: needed[1:], Since: now}
	return errors.Join(
		tx.DeleteRetired(l.d),
		tx.PutManifest(storage.ManifestRow{Digest: l.d, Size: int64(len(l.body)), Manifest: *m}),
		shareLearned(tx, &p.img), tx.PutImage(p.img))
}

// shareLearned gives an image's repositories the right to prefetch artifacts that
// were first made of another image. They say nothing but numbers.
func shareLearned(tx storage.Tx, img *storage.ImageRow) error {
	if img.Learned == nil {
		return nil
	}
	for _, d := range img.Learned.Blobs {
		for _, repo := range img.Repos {
			if err := shareMade(tx, repo, storage.MadeBlob{Digest: d, Of: img.Manifest.Digest}); err != nil {
				return err
			}
		}
	}
	return nil
}

// outdatedLearned reports an image that is offered with what was learnt when it
// is not to be any more.
func (x *Indexer) outdatedLearned(tx storage.Tx, img *storage.ImageRow) (bool, error) {
	if img.Learned == nil {
		return false, nil
	}
	if !x.opt.Learned {
		return true, nil
	}
	row, err := tx.Learn(img.Manifest.Digest)
	return len(row.Learnt) == 0, ignoreNotFound(err)
}
