package bolt

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func (t tx) PutLayer(row storage.LayerRow) error {
	key, err := layerKey(row.Digest, row.SpanSize)
	if err != nil {
		return err
	}
	return t.put(bucketLayers, key, row)
}

func (t tx) Layer(d digest.Digest, spanSize int64) (row storage.LayerRow, err error) {
	key, err := layerKey(d, spanSize)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketLayers, key, &row, layerName("layer", d, spanSize))
}

func layerName(what string, d digest.Digest, spanSize int64) func() string {
	return func() string { return fmt.Sprintf("%s %s, span size %d", what, d, spanSize) }
}

func (t tx) Layers(d digest.Digest, fn func(storage.LayerRow) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return scanRows(t, bucketLayers, prefix, fn)
}

func (t tx) DeleteLayer(d digest.Digest, spanSize int64) error {
	key, err := layerKey(d, spanSize)
	if err != nil {
		return err
	}
	for _, bucket := range [][]byte{bucketSpans, bucketHeat} {
		if err := t.t.Bucket(bucket).Delete(key); err != nil {
			return err
		}
	}
	return t.t.Bucket(bucketLayers).Delete(key)
}

func (t tx) AllLayers(fn func(storage.LayerRow) error) error {
	return scanRows(t, bucketLayers, nil, fn)
}

func (t tx) PutSpans(d digest.Digest, spanSize int64, table []byte) error {
	key, err := layerKey(d, spanSize)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketSpans).Put(key, slices.Clone(table))
}

func (t tx) Spans(d digest.Digest, spanSize int64) ([]byte, error) {
	key, err := layerKey(d, spanSize)
	if err != nil {
		return nil, err
	}
	v := t.t.Bucket(bucketSpans).Get(key)
	if v == nil {
		return nil, fmt.Errorf("%s: %w", layerName("spans", d, spanSize)(), storage.ErrNotFound)
	}
	return slices.Clone(v), nil
}

func (t tx) PutImage(row storage.ImageRow) error {
	if err := t.DeleteImage(row.Manifest.Digest); err != nil {
		return err
	}
	key, err := digestKey(row.Manifest.Digest)
	if err != nil {
		return err
	}
	byLayer := t.t.Bucket(bucketImagesByLayer)
	err = t.eachImageKey(row, func(key []byte) error { return byLayer.Put(key, present) })
	if err != nil {
		return err
	}
	return t.put(bucketImages, key, row)
}

func (t tx) Image(manifest digest.Digest) (row storage.ImageRow, err error) {
	key, err := digestKey(manifest)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketImages, key, &row, func() string { return "image " + manifest.String() })
}

func (t tx) DeleteImage(manifest digest.Digest) error {
	key, err := digestKey(manifest)
	if err != nil {
		return err
	}
	row, err := t.Image(manifest)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketImages, key)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.eachImageKey(row, t.t.Bucket(bucketImagesByLayer).Delete); err != nil {
		return err
	}
	return t.t.Bucket(bucketImages).Delete(key)
}

// eachImageKey calls fn with the key of each layer under which row is filed.
func (t tx) eachImageKey(row storage.ImageRow, fn func(key []byte) error) error {
	for _, l := range row.Layers {
		if l.SpanSize == 0 {
			continue
		}
		key, err := pairKey(l.Descriptor.Digest, row.Manifest.Digest)
		if err != nil {
			return err
		}
		if err := fn(key); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Images(fn func(storage.ImageRow) error) error {
	return scanRows(t, bucketImages, nil, fn)
}

func (t tx) ImageDigests(fn func(digest.Digest) error) error {
	return t.scan(bucketImages, nil, nil, func(k, _ []byte) error {
		d, err := wholeDigest(k)
		if err != nil {
			return t.skip(bucketImages, k, err)
		}
		return fn(d)
	})
}

func (t tx) ImagesOf(layer digest.Digest, fn func(storage.ImageRow) error) error {
	prefix, err := digestKey(layer)
	if err != nil {
		return err
	}
	return t.scan(bucketImagesByLayer, prefix, prefix, func(k, _ []byte) error {
		manifest, err := wholeDigest(k[len(prefix):])
		if err != nil {
			return t.skip(bucketImagesByLayer, k, err)
		}
		row, err := t.Image(manifest)
		if errors.Is(err, storage.ErrUnreadable) {
			return nil
		}
		if errors.Is(err, storage.ErrNotFound) {
			return t.skip(bucketImagesByLayer, k, err)
		}
		if err != nil {
			return err
		}
		return fn(row)
	})
}
