package catalog

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Watch is a storage.Meta that notes what writes may have changed in the table.
// Reading through it costs nothing, a write a few entries of a map.
type Watch struct {
	storage.Meta
	wake chan struct{} // cap 1

	mu        sync.Mutex
	images    map[digest.Digest]struct{} // that changed
	layers    map[digest.Digest]struct{} // whose images changed
	manifests map[digest.Digest]struct{} // tags or indexes of which changed: of images, or naming images
}

// NewWatch wraps m.
func NewWatch(m storage.Meta) *Watch { return &Watch{Meta: m, wake: make(chan struct{}, 1)} }

// Update is Meta's Update.
func (w *Watch) Update(ctx context.Context, fn func(storage.Tx) error) error {
	var seen *watchedTx
	err := w.Meta.Update(ctx, func(tx storage.Tx) error {
		seen = &watchedTx{Tx: tx} // anew: fn may run more than once
		return fn(seen)
	})
	if err == nil {
		w.note(seen)
	}
	return err
}

func (w *Watch) note(seen *watchedTx) {
	if len(seen.images)+len(seen.layers)+len(seen.manifests) == 0 {
		return
	}
	w.mu.Lock()
	for _, x := range []struct {
		into *map[digest.Digest]struct{}
		ds   []digest.Digest
	}{{&w.images, seen.images}, {&w.layers, seen.layers}, {&w.manifests, seen.manifests}} {
		if *x.into == nil {
			*x.into = map[digest.Digest]struct{}{}
		}
		for _, d := range x.ds {
			(*x.into)[d] = struct{}{}
		}
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// changes are what was noted.
type changes struct{ images, layers, manifests map[digest.Digest]struct{} }

func (c changes) none() bool { return len(c.images)+len(c.layers)+len(c.manifests) == 0 }

func (w *Watch) take() changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := changes{w.images, w.layers, w.manifests}
	w.images, w.layers, w.manifests = nil, nil, nil
	return c
}

// watchedTx notes what is written through it.
type watchedTx struct {
	storage.Tx
	images, layers, manifests []digest.Digest
}

func (t *watchedTx) PutImage(row storage.ImageRow) error {
	t.images = append(t.images, row.Manifest.Digest)
	return t.Tx.PutImage(row)
}

func (t *watchedTx) DeleteImage(d digest.Digest) error {
	t.images = append(t.images, d)
	return t.Tx.DeleteImage(d)
}

func (t *watchedTx) PutPulls(row storage.PullRow) error {
	t.images = append(t.images, row.Manifest)
	return t.Tx.PutPulls(row)
}

func (t *watchedTx) DeletePulls(d digest.Digest) error {
	t.images = append(t.images, d)
	return t.Tx.DeletePulls(d)
}

func (t *watchedTx) PutLayer(row storage.LayerRow) error {
	t.layers = append(t.layers, row.Digest)
	return t.Tx.PutLayer(row)
}

func (t *watchedTx) DeleteLayer(d digest.Digest, spanSize int64) error {
	t.layers = append(t.layers, d)
	return t.Tx.DeleteLayer(d, spanSize)
}

func (t *watchedTx) PutHeat(row storage.HeatRow) error {
	t.layers = append(t.layers, row.Digest)
	return t.Tx.PutHeat(row)
}

func (t *watchedTx) PutManifest(row storage.ManifestRow) error {
	t.manifests = append(t.manifests, row.Digest)
	return t.Tx.PutManifest(row)
}

// PutTag is called at every check of a tag that did not move, too: that changes
// nothing here.
func (t *watchedTx) PutTag(row storage.TagRow) error {
	old, err := t.Tag(row.Repo, row.Tag)
	if err != nil || old.Digest != row.Digest {
		t.manifests = append(t.manifests, row.Digest)
		if err == nil {
			t.manifests = append(t.manifests, old.Digest)
		}
	}
	return t.Tx.PutTag(row)
}

func (t *watchedTx) DeleteTag(repo oci.Repo, tag string) error {
	if old, err := t.Tag(repo, tag); err == nil {
		t.manifests = append(t.manifests, old.Digest)
	}
	return t.Tx.DeleteTag(repo, tag)
}

func (t *watchedTx) DeleteManifest(d digest.Digest) error {
	t.images = append(t.images, d)
	if row, err := t.Manifest(d); err == nil {
		for i := range row.Manifest.Manifests {
			t.images = append(t.images, row.Manifest.Manifests[i].Digest)
		}
	}
	return t.Tx.DeleteManifest(d)
}
