package indexer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestWant: what an operator asked for is made of layers that are here and of
// those that come, holds against the rules, and outlives a restart.
func TestWant(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	img := newImage(t, "img", a, b)
	other := newImage(t, "other", a)
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	for _, rules := range [][]Rule{nil, everything} {
		inBubble(t, func(t *testing.T) {
			dir := t.TempDir()
			w := start(t, dir, Options{Rules: rules}, nil)
			w.manifest(redis, img)
			w.manifest(redis, other)
			w.whole(a)
			w.settle()
			how := storage.Asked{SpanSize: 128 << 10, MinLayerSize: new(int64(1000))}
			w.check("want", w.x.Want(t.Context(), redis, row, how))
			w.settle()
			if len(rules) == 0 {
				w.wantNoIndex(img)
			}
			w.whole(b)
			w.settle()
			first := w.wantIndex(img, a, b)
			w.wantSpans(img, how.SpanSize)
			w.manifest(redis, img) // as every pull does
			w.settle()
			w.wantIndex(img, a, b)
			w.stop()

			w = start(t, dir, Options{Rules: rules}, nil)
			w.settle()
			if got := w.wantIndex(img, a, b); got.Digest != first.Digest {
				t.Errorf("after a restart the index is %s, before it was %s", got.Digest, first.Digest)
			}
			if len(rules) == 0 {
				w.wantNoIndex(other)
			}
		})
	}
}

// wantSpans checks the span size that an image's layers are wanted at.
func (w *world) wantSpans(img *image, spanSize int64) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		row, err := tx.Image(img.digest)
		for _, l := range row.Layers {
			if l.SpanSize != spanSize {
				w.t.Errorf("layer %s is wanted at %d, not %d", l.Descriptor.Digest, l.SpanSize, spanSize)
			}
		}
		return err
	})
}

// TestOnlyAsked: who does not know the rules leaves alone what they made.
func TestOnlyAsked(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	ruled, asked := newImage(t, "ruled", a), newImage(t, "asked", a, b)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, ruled)
		w.whole(a)
		w.keep(b)
		w.settle()
		was := w.wantIndex(ruled, a)
		w.stop()

		w = start(t, dir, Options{OnlyAsked: true}, nil)
		row := storage.ManifestRow{Digest: asked.digest, Size: int64(len(asked.body)), Manifest: asked.manifest}
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: everything[0].SpanSize, MinLayerSize: new(int64(0))}))
		w.settle()
		w.wantIndex(asked, a, b)
		if got := w.wantIndex(ruled, a); got.Digest != was.Digest {
			t.Errorf("index of the other image is %s, was %s", got.Digest, was.Digest)
		}
	})
}

func TestWantRefusals(t *testing.T) {
	img := newImage(t, "img", newLayer(t, 1))
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	soci := row
	soci.Manifest.Annotations = map[string]string{"com.amazon.soci.index-digest": img.digest.String()}
	fine := storage.Asked{SpanSize: 1}
	for _, tc := range []struct {
		name string
		o    Options
		row  storage.ManifestRow
		how  storage.Asked
		want error
	}{
		{"off", Options{Disabled: true}, row, fine, ErrDisabled},
		{"has one", Options{}, soci, fine, ErrNotIndexable},
		{"negative", Options{}, row, storage.Asked{SpanSize: 1, MinLayerSize: new(int64(-1))}, errors.ErrUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := New(tc.o).Want(t.Context(), redis, tc.row, tc.how); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestComing: an index certainly comes when every layer that is wanted is here,
// or on its way; only then.
func TestComing(t *testing.T) {
	a, b := newLayer(t, 1), newLayer(t, 2)
	img := newImage(t, "img", a, b)
	flights := map[digest.Digest]float64{} // bytes a second
	var brought []digest.Digest
	o := Options{
		Rules: everything,
		Flight: func(d digest.Digest) (int64, float64, bool) {
			rate, ok := flights[d]
			return 1000, rate, ok
		},
		Bring: func(_ oci.Repo, d v1.Descriptor) { brought = append(brought, d.Digest) },
	}
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), o, nil)
		coming := func(want bool, in time.Duration) {
			t.Helper()
			got, ok, err := w.x.Coming(t.Context(), redis, img.digest)
			if ok != want || err != nil || ok && got != in {
				t.Errorf("coming in %s: %t, %v; want %t in %s", got, ok, err, want, in)
			}
		}
		coming(false, 0)
		w.manifest(redis, img)
		coming(false, 0)
		w.check("bring", w.x.BringLayers(t.Context(), redis, img.digest))
		if len(brought) != 2 {
			t.Errorf("brought %v", brought)
		}
		flights[digest.FromBytes(a)] = 100
		coming(false, 0) // the other one is not under way
		flights[digest.FromBytes(b)] = 0
		coming(true, 10*time.Second)
		w.whole(a)
		w.settle()
		coming(true, 0)
		delete(flights, digest.FromBytes(b))
		coming(false, 0)
		w.whole(b)
		w.settle()
		coming(false, 0) // it is listed
		w.wantIndex(img, a, b)
	})
}

// TestWithdrawn: an index that an operator withdrew is not made again by what
// passes, nor by a restart, stays readable for a while, and comes back when it
// is asked for.
func TestWithdrawn(t *testing.T) {
	a := newLayer(t, 1)
	img := newImage(t, "img", a)
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		w := start(t, dir, Options{Rules: everything}, nil)
		w.manifest(redis, img)
		w.whole(a)
		w.settle()
		was := w.wantIndex(img, a)
		w.check("withdraw", w.store.Update(t.Context(), func(tx storage.Tx) error {
			gone, err := storage.WithdrawIndexes(tx, oci.Repo{}, img.digest, w.x.now())
			if len(gone) != 1 || gone[0] != was.Digest {
				t.Errorf("withdrawn: %v", gone)
			}
			return err
		}))
		w.manifest(redis, img)
		w.settle()
		w.wantNoIndex(img)
		w.read(was.Digest)
		w.stop()

		w = start(t, dir, Options{Rules: everything}, nil)
		w.settle()
		w.wantNoIndex(img)
		row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
		w.check("want", w.x.Want(t.Context(), redis, row, storage.Asked{SpanSize: everything[0].SpanSize, MinLayerSize: new(int64(0))}))
		w.settle()
		if again := w.wantIndex(img, a); again.Digest != was.Digest {
			t.Errorf("asked for again it is %s, was %s", again.Digest, was.Digest)
		}
		time.Sleep(48 * time.Hour)
		w.settle()
		w.wantIndex(img, a) // what is listed again is not removed
	})
}

// TestRottenLayer: a stored layer of which the bytes have changed is dropped,
// not tried again for ever; one that was pushed is put into quarantine.
func TestRottenLayer(t *testing.T) {
	for _, pushed := range []bool{false, true} {
		t.Run(fmt.Sprint("pushed ", pushed), func(t *testing.T) { rottenLayer(t, pushed) })
	}
}

func rottenLayer(t *testing.T, pushed bool) {
	a := newLayer(t, 1)
	img := newImage(t, "img", a)
	inBubble(t, func(t *testing.T) {
		w := start(t, t.TempDir(), Options{Rules: everything}, nil)
		w.keep(a)
		w.settle()
		d := digest.FromBytes(a)
		file := filepath.Join(w.dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
		other := newLayer(t, 2)
		other = append(other[:min(len(a), len(other))], make([]byte, max(0, len(a)-len(other)))...)
		w.check("rot", errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, other, 0o600)))
		if pushed {
			w.check("push", w.store.Host(t.Context(), d, func(tx storage.Tx) error {
				return tx.PutContent(storage.ContentRow{Repo: oci.Repo{Upstream: "local", Name: "app"}, Digest: d, Size: int64(len(a))})
			}))
		}
		w.manifest(redis, img)
		w.settle()
		time.Sleep(24 * time.Hour)
		w.settle()
		if jobs := w.jobs(); len(jobs) != 0 {
			t.Errorf("jobs left: %+v", jobs)
		}
		if b, err := w.store.Open(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("it is served: %v, %v", b, err)
		}
		aside, err := os.ReadDir(filepath.Join(w.dir, "quarantine"))
		if (len(aside) == 1) != pushed {
			t.Errorf("in quarantine: %v, %v", aside, err)
		}
	})
}
