package storage_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// newPurgeRegistry notes what is told to be dropped.
func newPurgeRegistry(t *testing.T) (r *registry, dropped *[]storage.Dropped) {
	dropped = &[]storage.Dropped{}
	return newRegistry(t, storage.Options{Dropped: func(_ storage.Tx, x storage.Dropped) error {
		*dropped = append(*dropped, x)
		return nil
	}}), dropped
}

func (r *registry) purge(o storage.PurgeOptions) storage.Purged {
	r.t.Helper()
	p, err := r.PurgeImage(r.t.Context(), o)
	r.must(err)
	return p
}

// TestPurgeAndPush: what was purged can be pushed again.
func TestPurgeAndPush(t *testing.T) {
	r, dropped := newPurgeRegistry(t)
	image := r.image(gcApp, "image", "1", "")
	signature := r.image(gcApp, "signature", "", image)
	layer := digest.FromString("layer of image")
	p := r.purge(storage.PurgeOptions{Repo: gcApp, Root: image})
	r.check(gcApp, false, image, layer)
	r.check(gcApp, true, signature) // an orphan: garbage, as when a client deletes the image
	if p.Blobs != 2 || len(*dropped) != 2 || (*dropped)[0].Repo != gcApp {
		t.Errorf("%+v, told of %+v; want the manifest and the layer", p, *dropped)
	}
	r.image(gcApp, "image", "1", "")
	r.check(gcApp, true, image, layer)
	r.must(r.View(t.Context(), func(tx storage.Tx) error {
		_, err := tx.Tag(gcApp, "1")
		return err
	}))
	report, err := r.Check(t.Context(), storage.CheckOptions{})
	if err != nil || report.Problems != 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
}

// TestPushMendsRight: content that lost its right, whatever took it, is there
// again after a push.
func TestPushMendsRight(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	d := r.blob(gcApp, "layer")
	r.must(r.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteRight(gcApp, d) }))
	r.check(gcApp, false, d)
	r.blob(gcApp, "layer")
	r.check(gcApp, true, d)
}

// TestPurgeOneRepository: an image that several repositories have goes from the
// one that was named.
func TestPurgeOneRepository(t *testing.T) {
	layer := digest.FromString("layer of image")
	for _, c := range []struct {
		name   string
		before func(r *registry)
		from   oci.Repo
		has    oci.Repo // keeps all of it
	}{
		{"both are hosted", func(r *registry) { r.image(gcOther, "image", "x", "") }, gcOther, gcApp},
		{"the cached one goes", func(r *registry) {
			r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
				return errors.Join(tx.PutRight(repoA, digest.FromString("image")), tx.PutRight(repoA, layer),
					tx.PutTag(storage.TagRow{Repo: repoA, Tag: "x", Digest: digest.FromString("image")}))
			}))
		}, repoA, gcApp},
		{"the hosted one goes", func(r *registry) {
			r.must(r.Update(r.t.Context(), func(tx storage.Tx) error {
				return errors.Join(tx.PutRight(repoA, digest.FromString("image")), tx.PutRight(repoA, layer),
					tx.PutTag(storage.TagRow{Repo: repoA, Tag: "x", Digest: digest.FromString("image")}))
			}))
		}, gcApp, repoA},
		{"another one is pinned", func(r *registry) {
			r.image(gcOther, "image", "x", "")
			_, err := r.Pin(r.t.Context(), "local/app:1", digest.FromString("image"))
			r.must(err)
		}, gcOther, gcApp},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, dropped := newPurgeRegistry(t)
			image := r.image(gcApp, "image", "1", "")
			c.before(r)
			if p := r.purge(storage.PurgeOptions{Repo: c.from, Root: image}); p.Blobs != 0 || p.Freed != 0 {
				t.Errorf("%+v, want that no bytes went", p)
			}
			r.check(c.has, true, image, layer)
			for _, d := range []digest.Digest{image, layer} {
				r.must(r.View(t.Context(), func(tx storage.Tx) error {
					if has, err := tx.HasRight(c.from, d); has || err != nil {
						t.Errorf("right to %s: %t, %v", d, has, err)
					}
					return tx.Tags(c.from, "", func(row storage.TagRow) error {
						t.Errorf("tag %s is left", row.Tag)
						return nil
					})
				}))
			}
			if hosted := c.from.Upstream == "local"; hosted != (len(*dropped) == 2) {
				t.Errorf("told of %+v", *dropped)
			}
		})
	}
}

// TestPurgeKeepsSiblings: what another image of the same repository has, stays.
func TestPurgeKeepsSiblings(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	base := r.blob(gcApp, "base")
	one := r.image(gcApp, "one", "1", "", base)
	two := r.image(gcApp, "two", "2", "", base)
	r.purge(storage.PurgeOptions{Repo: gcApp, Root: one})
	r.check(gcApp, false, one, digest.FromString("layer of one"))
	r.check(gcApp, true, two, base)
}

func TestPurgeImmutable(t *testing.T) {
	r := newRegistry(t, storage.Options{})
	image := r.image(gcApp, "image", "v1", "")
	o := storage.PurgeOptions{Repo: gcApp, Root: image, Immutable: func(_ oci.Repo, tag string) bool { return strings.HasPrefix(tag, "v") }}
	if _, err := r.PurgeImage(t.Context(), o); !errors.Is(err, storage.ErrImmutable) {
		t.Errorf("PurgeImage: %v, want ErrImmutable", err)
	}
	r.check(gcApp, true, image, digest.FromString("layer of image"))
	o.Force = true
	r.purge(o)
	r.check(gcApp, false, image, digest.FromString("layer of image"))
}

func TestPurgeBlobHosted(t *testing.T) {
	r, dropped := newPurgeRegistry(t)
	image := r.image(gcApp, "image", "1", "")
	layer := r.blob(gcOther, "layer of image")
	for _, d := range []digest.Digest{image, layer} {
		_, err := r.PurgeBlob(t.Context(), d, false)
		if !errors.Is(err, storage.ErrHosted) || !strings.Contains(err.Error(), "local/app") {
			t.Errorf("PurgeBlob: %v, want ErrHosted with the repository's name", err)
		}
		r.check(gcApp, true, d)
	}
	for _, d := range []digest.Digest{layer, image} {
		if freed, err := r.PurgeFile(t.Context(), d, true); err != nil || freed == 0 {
			t.Errorf("PurgeBlob with force: %d, %v", freed, err)
		}
		r.check(gcApp, false, d)
	}
	if !slices.ContainsFunc(*dropped, func(x storage.Dropped) bool { return x.Repo == gcOther && x.Target.Digest == layer }) || len(*dropped) != 3 {
		t.Errorf("told of %+v", *dropped)
	}
	r.image(gcApp, "image", "1", "")
	r.check(gcApp, true, image, layer)
}
