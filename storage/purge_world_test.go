package storage_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

var (
	repoA = oci.Repo{Upstream: "docker.io", Name: "library/a"}
	repoB = oci.Repo{Upstream: "ghcr.io", Name: "b/b"}
)

// world has an index a:1 of two images, of which one is b:1's base too.
//
//	a:1, a:latest -> index -> one   -> base, layer (indexed, with a span)
//	                       -> two   -> base, extra
//	                       -> never came by
//	b:1           -> other -> base, shared
type world struct {
	*rig
	l                                     *storagetest.Layer
	index, one, two, other                digest.Digest
	base, extra, shared, span, soci, zTOC digest.Digest
	never                                 digest.Digest
	all                                   map[string]digest.Digest
}

func newWorld(t *testing.T, l *storagetest.Layer) *world {
	return fillWorld(t, newRig(t, t.TempDir(), nil, storage.Options{}), l)
}

func fillWorld(t *testing.T, r *rig, l *storagetest.Layer) *world {
	w := &world{rig: r, l: l, never: digest.FromString("never")}
	l.Store(t, w.Store)
	w.zTOC = l.Row.ZTOC
	w.base = w.mustPut(kb("base", 10), storage.KindBlob, storage.Durable)
	w.extra = w.mustPut(kb("extra", 10), storage.KindBlob, storage.Cached) // its row is not written yet
	w.shared = w.mustPut(kb("shared", 10), storage.KindBlob, storage.Durable)
	w.one = w.putManifest("one", []digest.Digest{w.base, l.Digest()}, nil)
	w.two = w.putManifest("two", []digest.Digest{w.base, w.extra}, nil)
	w.index = w.putManifest("index", nil, []digest.Digest{w.one, w.two, w.never})
	w.other = w.putManifest("other", []digest.Digest{w.base, w.shared}, nil)
	sp := l.Table.Span(1)
	w.span = sp.Digest
	span := storage.BlobRow{Digest: sp.Digest, Kind: storage.KindSpan, Of: l.Digest()}
	err := w.Put(t.Context(), span, l.Body[sp.Off:sp.End], nil)
	soci := []byte("soci index")
	w.soci = digest.FromBytes(soci)
	row := storage.BlobRow{Digest: w.soci, Kind: storage.KindIndex, Of: w.one}
	err = errors.Join(err, w.Put(t.Context(), row, soci, func(tx storage.Tx) error {
		errs := []error{
			tx.PutManifest(storage.ManifestRow{Digest: w.soci}),
			tx.PutReferrer(storage.ReferrerRow{Subject: w.one, Descriptor: v1.Descriptor{Digest: w.soci}}),
			tx.PutImage(storage.ImageRow{Manifest: v1.Descriptor{Digest: w.one}, Repos: []oci.Repo{repoA}, Index: w.soci}),
			tx.PutTag(storage.TagRow{Repo: repoA, Tag: "1", Digest: w.index}),
			tx.PutTag(storage.TagRow{Repo: repoA, Tag: "latest", Digest: w.index}),
			tx.PutTag(storage.TagRow{Repo: repoB, Tag: "1", Digest: w.other}),
			tx.PutRight(repoB, w.zTOC), // as for a layer that differs in its header
		}
		for _, d := range []digest.Digest{w.index, w.one, w.two, w.base, w.extra, l.Digest()} {
			errs = append(errs, tx.PutRight(repoA, d))
		}
		for _, d := range []digest.Digest{w.other, w.base, w.shared} {
			errs = append(errs, tx.PutRight(repoB, d))
		}
		return errors.Join(errs...)
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.all = map[string]digest.Digest{
		"index": w.index, "one": w.one, "two": w.two, "other": w.other, "base": w.base, "extra": w.extra, "shared": w.shared,
		"layer": l.Digest(), "span": w.span, "soci": w.soci, "ztoc": w.zTOC,
	}
	return w
}

// rights gives what repo has, by the names of all.
func (w *world) rights(repo oci.Repo) (names []string) {
	w.t.Helper()
	err := w.View(w.t.Context(), func(tx storage.Tx) error {
		names = nil
		for name, d := range w.all {
			if ok, err := tx.HasRight(repo, d); err != nil {
				return err
			} else if ok {
				names = append(names, name)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	slices.Sort(names)
	return names
}

func (w *world) tagged(repo oci.Repo) (tags []string) {
	w.t.Helper()
	err := w.View(w.t.Context(), func(tx storage.Tx) error {
		tags = nil
		return tx.Tags(repo, "", func(row storage.TagRow) error { tags = append(tags, row.Tag); return nil })
	})
	if err != nil {
		w.t.Error(err)
	}
	return tags
}
