package indexer

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// learn files which spans of an image's layers starts need, and tells x.
func (w *world) learn(img *image, spans ...int) {
	w.t.Helper()
	row := storage.LearnRow{Manifest: img.digest}
	for i := range img.manifest.Layers {
		l := storage.LearntLayer{Layer: img.manifest.Layers[i].Digest, SpanSize: everything[0].SpanSize}
		for _, n := range spans {
			l.Spans = append(l.Spans, storage.LearntSpan{Span: n})
		}
		if len(spans) > 0 {
			row.Learnt = append(row.Learnt, l)
		}
	}
	w.check("file what was learnt", w.store.Update(w.t.Context(), func(tx storage.Tx) error { return tx.PutLearn(row) }))
	w.x.Learnt(w.t.Context(), img.digest)
}

func (w *world) image(d digest.Digest) (row storage.ImageRow) {
	w.t.Helper()
	w.view(func(tx storage.Tx) (err error) {
		row, err = tx.Image(d)
		return err
	})
	return row
}

// here reports whether a blob has a row.
func (w *world) here(d digest.Digest) (here bool) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		_, err := tx.Blob(d)
		here = err == nil
		return ignoreNotFound(err)
	})
	return here
}

// TestLearnedIndex: the index with what was learnt stands beside the plain one,
// which stays the one that is listed; what it replaces is retired and goes.
func TestLearnedIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		layer := newLayer(t, 1)
		img := newImage(t, "one", layer)
		w := start(t, t.TempDir(), Options{Rules: everything, Learned: true}, nil)
		w.whole(layer)
		w.manifest(redis, img)
		w.settle()
		plain := w.image(img.digest)
		if plain.Index == "" || plain.Learned != nil {
			t.Fatalf("at first: %+v", plain)
		}

		w.learn(img, 3, 2, 0, 1<<20) // there are not so many
		w.settle()
		first := w.image(img.digest)
		if first.Index != plain.Index || first.Learned == nil || first.Learned.Index == plain.Index {
			t.Fatalf("learnt: %+v", first)
		}
		if list := w.referrers(img.digest); len(list) != 1 || list[0].Digest != plain.Index {
			t.Errorf("listed: %v", list)
		}
		want := `{"version":"1.0","prefetch_spans":[{"start_span":0,"end_span":0},{"start_span":2,"end_span":3}]}`
		if diff := cmp.Diff(want, string(w.read(first.Learned.Blobs[0]))); diff != "" {
			t.Errorf("artifact (-want +got):\n%s", diff)
		}
		var m storage.ManifestRow
		w.view(func(tx storage.Tx) (err error) {
			m, err = tx.Manifest(first.Learned.Index)
			return err
		})
		if n := len(m.Manifest.Layers); n != 2 || m.Manifest.Layers[1].MediaType != oci.MediaTypeSOCIPrefetch || m.Manifest.Subject.Digest != img.digest {
			t.Errorf("the index: %+v", m.Manifest)
		}

		w.x.Learnt(t.Context(), img.digest) // again, with nothing new
		w.learn(img, 4)
		w.settle()
		second := w.image(img.digest)
		if second.Learned == nil || second.Learned.Index == first.Learned.Index || second.Index != plain.Index {
			t.Fatalf("learnt anew: %+v", second)
		}
		if !w.here(first.Learned.Index) || !w.here(first.Learned.Blobs[0]) {
			t.Error("what a client may have found a moment ago is gone")
		}
		time.Sleep(25 * time.Hour)
		w.settle()
		if w.here(first.Learned.Index) || !w.here(second.Learned.Index) || !w.here(plain.Index) {
			t.Error("after it was retired for long enough the index is still here, or another one is not")
		}

		w.learn(img)
		w.settle()
		if none := w.image(img.digest); none.Learned != nil || none.Index != plain.Index {
			t.Errorf("with nothing learnt any more: %+v", none)
		}
	})
}

// TestLearningIsSwitchedOff: a server that is not to learn offers the plain index.
func TestLearningIsSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, layer := t.TempDir(), newLayer(t, 1)
		img := newImage(t, "one", layer)
		w := start(t, dir, Options{Rules: everything, Learned: true}, nil)
		w.whole(layer)
		w.manifest(redis, img)
		w.learn(img, 1)
		w.settle()
		if w.image(img.digest).Learned == nil {
			t.Fatal("nothing is offered")
		}
		w.stop()
		var log bytes.Buffer
		w = start(t, dir, Options{Rules: everything, Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil)
		w.settle()
		if got := w.image(img.digest); got.Learned != nil || got.Index == "" {
			t.Errorf("switched off: %+v", got)
		}
		if text := log.String(); !strings.Contains(text, `msg="index offered without what was learnt"`) {
			t.Errorf("the log: %s", text)
		}
	})
}

// TestTwoImagesOneArtifact: equal artifacts are one blob, to which both images'
// repositories have the right.
func TestTwoImagesOneArtifact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := oci.Repo{Upstream: "ghcr.io", Name: "acme/app"}
		a, b := newLayer(t, 1), newLayer(t, 2)
		one, two := newImage(t, "one", a), newImage(t, "two", b)
		w := start(t, t.TempDir(), Options{Rules: everything, Learned: true}, nil)
		w.whole(a)
		w.whole(b)
		w.manifest(redis, one)
		w.manifest(other, two)
		w.settle()
		w.learn(one, 1)
		w.learn(two, 1)
		w.settle()
		x, y := w.image(one.digest).Learned, w.image(two.digest).Learned
		if x == nil || y == nil || x.Index == y.Index || x.Blobs[0] != y.Blobs[0] {
			t.Fatalf("%+v and %+v", x, y)
		}
		w.view(func(tx storage.Tx) error {
			row, err := tx.Blob(x.Blobs[0])
			ok, rerr := tx.HasRight(other, x.Blobs[0])
			if row.Of == one.digest && !ok {
				t.Error("the second image's repository may not read its artifact")
			}
			return errors.Join(err, rerr)
		})
	})
}

// TestConversionTakesWhatIsKnown: a SOCI v2 index names what is known of a platform
// when that is first converted, and then never anything else.
func TestConversionTakesWhatIsKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		rule := Rule{Repositories: []string{"redis"}, MinLayerSize: 20000, SpanSize: 65536}
		s := newSupply(layout{t, "testdata/images/buildkit/before"})
		w := start(t, t.TempDir(), Options{Rules: []Rule{rule}, Fetch: s, Learned: true}, nil)
		s.w = w
		source := s.pull(t, "7", "linux/amd64")
		w.settle()
		one, _ := w.conversion(source)
		byPlatform := map[string]digest.Digest{}
		w.view(func(tx storage.Tx) error {
			row, err := tx.Manifest(source)
			for i := range row.Manifest.Manifests {
				m := &row.Manifest.Manifests[i]
				byPlatform[platformName(m.Platform)] = m.Digest
			}
			return err
		})
		for _, p := range []string{"linux/amd64", "linux/arm64"} {
			w.learn(&image{digest: byPlatform[p], manifest: *s.manifest(byPlatform[p])}, 0)
		}
		w.settle()
		if again, _ := w.conversion(source); again.Index.Digest != one.Index.Digest || len(again.Prefetch) > 0 {
			t.Errorf("what was learnt later changed the conversion: %+v", again)
		}
		s.pull(t, "7", "linux/arm64")
		w.settle()
		both, _ := w.conversion(source)
		if len(both.Platforms) != 2 || len(both.Prefetch) != 1 || both.Prefetch[0].Manifest != byPlatform["linux/arm64"] {
			t.Fatalf("with the second platform: %+v", both)
		}
		for _, d := range both.Prefetch[0].Artifacts {
			if !w.here(d.Digest) {
				t.Errorf("the artifact %s is not here", d.Digest)
			}
		}
		w.learn(&image{digest: byPlatform["linux/arm64"], manifest: *s.manifest(byPlatform["linux/arm64"])}, 0, 1)
		w.settle()
		time.Sleep(48 * time.Hour)
		w.settle()
		if again, _ := w.conversion(source); again.Index.Digest != both.Index.Digest || !w.here(both.Prefetch[0].Artifacts[0].Digest) {
			t.Errorf("it did not stay what it was: %+v", again)
		}
	})
}

// manifest reads one of the layout's.
func (s *supply) manifest(d digest.Digest) *oci.Manifest {
	m, err := oci.ParseManifest(s.from.blob(d), s.types[d])
	if err != nil {
		s.from.t.Fatal(err)
	}
	return m
}
