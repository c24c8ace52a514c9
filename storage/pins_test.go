package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// putManifest stores an image manifest of blobs, or with below an index.
func (r *rig) putManifest(name string, blobs, below []digest.Digest) digest.Digest {
	r.t.Helper()
	mediaType := v1.MediaTypeImageManifest
	var doc any
	if below == nil {
		m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, Annotations: map[string]string{"name": name}}
		m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: oci.EmptyDigest, Size: 2}
		for i, d := range blobs {
			m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: int64(i)})
		}
		doc = m
	} else {
		m := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Annotations: map[string]string{"name": name}}
		for i, d := range below {
			m.Manifests = append(m.Manifests, v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: d, Size: int64(i)})
		}
		mediaType, doc = v1.MediaTypeImageIndex, m
	}
	body, err := json.Marshal(doc)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := oci.ParseManifest(body, mediaType)
	if err != nil {
		r.t.Fatal(err)
	}
	d := digest.FromBytes(body)
	err = r.Put(r.t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindManifest}, body, func(tx storage.Tx) error {
		return tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: *m})
	})
	if err != nil {
		r.t.Fatalf("put manifest: %v", err)
	}
	return d
}

func (r *rig) pins() (rows []storage.PinRow) {
	r.t.Helper()
	err := r.View(r.t.Context(), func(tx storage.Tx) error {
		rows = nil
		return tx.Pins(func(row storage.PinRow) error { rows = append(rows, row); return nil })
	})
	if err != nil {
		r.t.Errorf("Pins: %v", err)
	}
	return rows
}

// pin keeps a blob.
func (r *rig) pin(d digest.Digest) {
	r.t.Helper()
	err := r.Update(r.t.Context(), func(tx storage.Tx) error {
		return tx.PutPin(storage.PinRow{Reference: d.Encoded(), Root: d, Holds: []digest.Digest{d}})
	})
	if err != nil {
		r.t.Fatalf("pin: %v", err)
	}
}

// TestPinnedIsOnNoProbation has a quarter of a store be pinned and read by nobody
// since: that takes no room from what is new, of which there is little.
func TestPinnedIsOnNoProbation(t *testing.T) {
	for name, read := range map[string]bool{"idle": false, "being read": true} {
		t.Run(name, func(t *testing.T) {
			now := &clock{t: noon}
			r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: 1_000_000, Now: now.now})
			for i := range 5 {
				d := r.mustPut(kb(fmt.Sprint("pinned", i), 50), storage.KindBlob, storage.Durable)
				r.pin(d)
				if read {
					b, err := r.Open(t.Context(), d)
					if err != nil {
						t.Fatal(err)
					}
					defer closeIt(t, b)
				}
			}
			again := map[string]digest.Digest{}
			for i := range 14 {
				name := fmt.Sprint("again", i)
				now.forward(time.Second)
				again[name] = r.mustPut(kb(name, 50), storage.KindBlob, storage.Durable)
			}
			for i := range 14 {
				name := fmt.Sprint("again", i)
				now.forward(time.Hour)
				r.wantServed(name, again[name])
			}
			fresh := r.mustPut(kb("new", 50), storage.KindBlob, storage.Durable)
			now.forward(time.Second)
			r.mustPut(kb("newer", 20), storage.KindBlob, storage.Durable)
			r.wantServed("what is new, a twentieth of the store", fresh)
			r.wantAbsent("what was read again, longest ago", again["again0"])
		})
	}
}

// TestPinned fills a store until nothing but what is pinned is left in it.
func TestPinned(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 300_000, spanSize)
	now := &clock{t: noon}
	limit := l.Row.Size + l.Row.ZTOCSize + 500_000
	r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: limit, Now: now.now})
	l.Store(t, r.Store)
	config := r.mustPut(kb("config", 10), storage.KindBlob, storage.Durable)
	image := r.putManifest("image", []digest.Digest{config, l.Digest()}, nil)
	root := r.putManifest("index", nil, []digest.Digest{image, digest.FromString("never came by")})
	row, err := r.Pin(t.Context(), "docker.io/library/redis:7", root)
	want := []digest.Digest{root, image, digest.FromString("never came by"), oci.EmptyDigest, config, l.Digest()}
	if err != nil || !slices.Equal(row.Holds, want) {
		t.Fatalf("Pin: %v, %v, want %v", row.Holds, err, want)
	}
	// a partial of something pinned is kept, too
	part := r.openPartial(digest.FromString("never came by"))
	writeAt(t, part, kb("part", 100), ranges(0, 100_000)...)
	if err := part.Checkpoint(t.Context(), 100_000, ranges(0, 100_000)); err != nil {
		t.Fatal(err)
	}
	closeIt(t, part)

	for i := range 10 {
		now.forward(time.Hour)
		r.mustPut(kb(string(rune('a'+i)), 200), storage.KindBlob, storage.Durable)
	}
	now.forward(time.Hour)
	if _, err := r.put(kb("too much", 450), storage.KindBlob, storage.Durable); !errors.Is(err, storage.ErrFull) {
		t.Errorf("put of more than what is left by the pin: %v, want ErrFull", err)
	}
	for _, d := range []digest.Digest{root, image, config, l.Digest(), l.Row.ZTOC} {
		r.wantServed("what is pinned", d)
	}
	if _, err := r.partialRow(digest.FromString("never came by")); err != nil {
		t.Errorf("partial of what is pinned: %v", err)
	}
	r = r.reopen(storage.Options{MaxBytes: limit, Now: now.now})
	if err := r.Unpin(t.Context(), "docker.io/library/redis:7"); err != nil {
		t.Errorf("Unpin: %v", err)
	}
	if err := r.Unpin(t.Context(), "docker.io/library/redis:7"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Unpin again: %v, want ErrNotFound", err)
	}
	r.mustPut(kb("too much", 450), storage.KindBlob, storage.Durable)
	r.wantAbsent("what is pinned no more", l.Digest())
	r.wantServed("a manifest", root)
	r.wantUsage()
}

// TestPinnedSpans keeps the spans of a pinned layer that is not whole.
func TestPinnedSpans(t *testing.T) {
	l := storagetest.NewLayer(t, "layer", 1_000_000, spanSize)
	for _, whole := range []bool{false, true} {
		now := &clock{t: noon}
		r := newRig(t, t.TempDir(), nil, storage.Options{MaxBytes: l.Row.Size + l.Row.ZTOCSize + 500_000, Now: now.now})
		l.Store(t, r.Store)
		if !whole {
			if _, err := r.Purge(t.Context(), l.Digest()); err != nil {
				t.Fatal(err)
			}
		}
		sp := l.Table.Span(3)
		w, err := r.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(l.Body[sp.Off:sp.End])
		if err == nil {
			err = w.Commit(t.Context(), storage.BlobRow{Digest: sp.Digest, Kind: storage.KindSpan, Of: l.Digest()}, storage.Durable)
		}
		closeIt(t, w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Pin(t.Context(), "a/b:1", r.putManifest("image", []digest.Digest{l.Digest()}, nil)); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			now.forward(time.Hour)
			r.mustPut(kb(string(rune('a'+i)), 300), storage.KindBlob, storage.Durable)
		}
		if whole {
			r.wantServed("a pinned layer", l.Digest())
			r.wantAbsent("a span of it, which is worth nothing", sp.Digest)
		} else {
			r.wantServed("a span of a pinned layer", sp.Digest)
		}
	}
}

// TestPinExtends has a platform's manifest arrive after its index was pinned.
func TestPinExtends(t *testing.T) {
	other := newRig(t, t.TempDir(), nil, storage.Options{})
	layer := digest.FromString("layer")
	image := other.putManifest("image", []digest.Digest{layer}, nil)

	r := newRig(t, t.TempDir(), nil, storage.Options{})
	root := r.putManifest("index", nil, []digest.Digest{image})
	for _, name := range []string{"a/b:1", "a/b:2"} {
		if _, err := r.Pin(t.Context(), name, root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Pin(t.Context(), "a/b:3", digest.FromString("unknown")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Pin of what is not known: %v, want ErrNotFound", err)
	}
	r.putManifest("image", []digest.Digest{layer}, nil)
	for _, row := range r.pins() {
		if want := []digest.Digest{root, image, oci.EmptyDigest, layer}; !slices.Equal(row.Holds, want) {
			t.Errorf("%s holds %v, want %v", row.Reference, row.Holds, want)
		}
	}
	if n := len(r.pins()); n != 2 {
		t.Errorf("%d pins, want 2", n)
	}
}

// TestPinnedWithAttached: what is attached to an image is kept with it, also when
// it is pinned again by somebody who does not know of that.
func TestPinnedWithAttached(t *testing.T) {
	r := newRig(t, t.TempDir(), nil, storage.Options{})
	layer, blob := digest.FromString("layer"), digest.FromString("what a signature is")
	image := r.putManifest("image", []digest.Digest{layer}, nil)
	signature := r.putManifest("signature", []digest.Digest{blob}, nil)
	other := r.putManifest("other", nil, nil)
	pinned := func(d digest.Digest) (yes bool) {
		if err := r.View(t.Context(), func(tx storage.Tx) (err error) { yes, err = tx.Pinned(d); return err }); err != nil {
			t.Error(err)
		}
		return yes
	}
	for n, attached := range [][]digest.Digest{{signature}, nil, {signature, digest.FromString("to come")}} {
		if _, err := r.Pin(t.Context(), "up/a:1", image, attached...); err != nil {
			t.Fatal(err)
		}
		for _, d := range []digest.Digest{image, layer, signature, blob} {
			if !pinned(d) {
				t.Errorf("pin %d does not hold %s", n, d)
			}
		}
	}
	if got := r.pins(); len(got) != 1 || len(got[0].Attached) != 2 {
		t.Errorf("pins: %+v", got)
	}
	if _, err := r.Pin(t.Context(), "up/a:1", other); err != nil {
		t.Fatal(err)
	}
	if pinned(signature) || pinned(image) || !pinned(other) {
		t.Error("another image of that name holds what was attached to the one before")
	}
}
