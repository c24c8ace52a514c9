package storage_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

func TestImportedRanges(t *testing.T) {
	row := storage.ImportedRow{Size: 100, Head: []byte("0123456789"), Runs: []storage.ImportedRun{
		{Range: oci.Range{Off: 20, End: 40}, At: 7}, {Range: oci.Range{Off: 60, End: 61}, At: 27},
	}}
	for _, tt := range []struct {
		off, end int64
		covered  bool
		head     string
		at       int64
	}{
		{0, 2, true, "01", 0},
		{9, 10, true, "9", 0},
		{0, 11, false, "", 0},
		{10, 11, false, "", 0},
		{19, 21, false, "", 0},
		{20, 40, true, "", 7},
		{39, 40, true, "", 26},
		{39, 41, false, "", 0},
		{30, 61, false, "", 0},
		{60, 61, true, "", 27},
		{99, 100, false, "", 0},
		{5, 5, true, "", 0},
	} {
		r := oci.Range{Off: tt.off, End: tt.end}
		if row.Covers(r) != tt.covered {
			t.Errorf("Covers(%v) is not %t", r, tt.covered)
		}
		if !tt.covered {
			continue
		}
		if head, at := row.Where(r); string(head) != tt.head || at != tt.at {
			t.Errorf("Where(%v) = %q, %d, want %q, %d", r, head, at, tt.head, tt.at)
		}
	}
	joined := storage.ImportedRow{Size: 100, Head: []byte("01"), Runs: []storage.ImportedRun{{Range: oci.Range{Off: 2, End: 9}, At: 50}}}
	if head, at := joined.Where(oci.Range{Off: 1, End: 5}); string(head) != "1" || at != 50 || !joined.Covers(oci.Range{Off: 1, End: 5}) {
		t.Errorf("a range that begins in the head: %q, %d", head, at)
	}
}

// putHot stores spans of a layer, and their row.
func putHot(t *testing.T, s *storage.Store, layer, zTOC digest.Digest, body []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(body)
	err := s.Put(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindHot, Of: layer}, body, func(tx storage.Tx) error {
		return tx.PutImported(storage.ImportedRow{Layer: layer, ZTOC: zTOC, Blob: d, BlobSize: int64(len(body))})
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPinnedHotSpans fills a store: spans that came in a bundle stay for the sake
// of a pinned layer, and go like any blob without.
func TestPinnedHotSpans(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		now := &clock{t: noon}
		r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
		layer := digest.FromString("layer")
		hot := putHot(t, r.Store, layer, digest.FromString("ztoc"), kb("hot", 300))
		image := r.putManifest("image", []digest.Digest{layer}, nil)
		if pinned {
			if _, err := r.Pin(t.Context(), "a/b:1", image); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			now.forward(time.Hour)
			r.mustPut(kb(string(rune('a'+i)), 300), storage.KindBlob, storage.Durable)
		}
		if pinned {
			r.wantServed("spans of a pinned layer", hot)
		} else {
			r.wantAbsent("spans of a layer that nobody pinned", hot)
		}
	}
}

func TestCollectHotSpans(t *testing.T) {
	l := storagetest.NewLayer(t, "hot", 300_000, 1<<16)
	r := newRegistry(t, storage.Options{})
	layer, late := digest.FromString("a layer that is elsewhere"), digest.FromString("late")
	zTOC := []byte("its ztoc")
	r.must(r.Put(t.Context(), storage.BlobRow{Digest: digest.FromBytes(zTOC), Kind: storage.KindZTOC, Of: layer}, zTOC, nil))
	img := storage.ImageRow{Manifest: v1.Descriptor{Digest: digest.FromString("image")}, Repos: []oci.Repo{repoA}}
	img.Layers = []storage.ImageLayer{{Descriptor: v1.Descriptor{Digest: layer}, SpanSize: 1}}
	r.must(r.Put(t.Context(), storage.BlobRow{Digest: img.Manifest.Digest, Kind: storage.KindManifest}, []byte("image"), func(tx storage.Tx) error {
		return errors.Join(tx.PutManifest(storage.ManifestRow{Digest: img.Manifest.Digest}), tx.PutImage(img), tx.PutRight(repoA, img.Manifest.Digest))
	}))
	kept := putHot(t, r.Store, layer, digest.FromBytes(zTOC), []byte("spans"))
	old := putHot(t, r.Store, late, digest.FromString("x"), []byte("earlier spans"))
	whole := putHot(t, r.Store, l.Digest(), l.Row.ZTOC, []byte("spans of what is whole"))
	l.Store(t, r.Store)
	r.pass(2 * grace)
	putHot(t, r.Store, late, digest.FromString("x"), []byte("later spans"))
	list, _ := r.collect(r.collector())
	var gone []digest.Digest
	for _, x := range list {
		gone = append(gone, x.Digest)
	}
	if !slices.Contains(gone, old) || !slices.Contains(gone, whole) || slices.Contains(gone, kept) || slices.Contains(gone, digest.FromBytes(zTOC)) {
		t.Errorf("collected %v, want %s, %s", gone, old, whole)
	}
	rows := func() (n int) {
		r.must(r.View(t.Context(), func(tx storage.Tx) error {
			n = 0
			return tx.AllImported(func(storage.ImportedRow) error { n++; return nil })
		}))
		return n
	}
	if n := rows(); n != 2 {
		t.Errorf("%d rows are left, want that of what is not whole and of what came later", n)
	}
	r.pass(72 * time.Hour) // nobody uses the image: what was made of it goes, and what came with it
	r.collect(r.collector())
	r.pass(2 * grace)
	r.collect(r.collector())
	for what, d := range map[string]digest.Digest{"the spans": kept, "the zTOC": digest.FromBytes(zTOC)} {
		if _, err := r.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s of an image that is gone: %v", what, err)
		}
	}
	if n := rows(); n != 1 {
		t.Errorf("%d rows are left, want that of the layer that no image ever had", n)
	}
}

// TestPurgeHotSpans purges an image with what came of its layer.
func TestPurgeHotSpans(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	layer := digest.FromString("layer")
	hot := putHot(t, r.Store, layer, digest.FromString("ztoc"), kb("hot", 3))
	image := r.putManifest("image", []digest.Digest{layer}, nil)
	if _, err := r.PurgeImage(t.Context(), storage.PurgeOptions{Repo: repoA, Root: image}); err != nil {
		t.Fatal(err)
	}
	r.wantAbsent("spans of a purged image", hot)
	err := r.View(t.Context(), func(tx storage.Tx) error { _, err := tx.Imported(layer); return err })
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("their row: %v", err)
	}
}

func TestReadSpans(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 1_000_000, spanSize)
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	l.Store(t, r.Store)
	if got, err := r.ReadSpans(t.Context(), l.Digest(), spanSize); err != nil || len(got) != 0 {
		t.Errorf("of a layer that nobody reads: %v, %v", got, err)
	}
	one := l.Table.Span(2)
	r.Heat(l.Digest(), oci.Range{Off: one.Off + 5, End: one.End - 5})
	sp := l.Table.Span(4)
	w, err := r.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = bytes.NewReader(l.Body[sp.Off:sp.End]).WriteTo(w)
	if err == nil {
		err = w.Commit(t.Context(), storage.BlobRow{Digest: sp.Digest, Kind: storage.KindSpan, Of: l.Digest()}, storage.Durable)
	}
	closeIt(t, w)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadSpans(t.Context(), l.Digest(), spanSize); err != nil || !slices.Equal(got, []int{2, 4}) {
		t.Errorf("%v, %v, want 2, which was read of the whole, and 4, which was read by itself", got, err)
	}
	if _, err := r.ReadSpans(t.Context(), digest.FromString("x"), spanSize); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of what is no layer: %v", err)
	}
}
