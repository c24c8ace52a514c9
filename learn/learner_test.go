package learn

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/ztoc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Learner over rows of one image, in the bubble of a synctest.
type world struct {
	t     *testing.T
	db    *bolt.DB
	l     *Learner
	layer digest.Digest
	table ztoc.SpanTable
	img   storage.ImageRow

	mu        sync.Mutex
	published int
	warmed    [][]storage.LayerRange
}

var repo = oci.Repo{Upstream: "docker.io", Name: "library/redis"}

// inWorld runs fn with a running Learner.
func inWorld(t *testing.T, p Policy, fn func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db}
		w.fill()
		w.l = New(Options{
			Store: db, Policy: p, Publish: w.publish,
			Warm: func(_ *http.Request, _ oci.Repo, _ digest.Digest, ranges []storage.LayerRange) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.warmed = append(w.warmed, ranges)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := w.l.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		fn(w)
		cancel()
		run.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// fill files an image of one layer, which is indexed.
func (w *world) fill() {
	w.t.Helper()
	body := layerBytes(w.t, 40)
	b, err := ztoc.NewBuilder(spanSize/16, ztoc.Options{SpillDir: w.t.TempDir()})
	if err != nil {
		w.t.Fatal(err)
	}
	defer b.Abort()
	if _, err := b.Write(body); err != nil {
		w.t.Fatal(err)
	}
	res, err := b.Finish()
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Close()
	if w.table, err = res.Table(); err != nil {
		w.t.Fatal(err)
	}
	raw, err := w.table.MarshalBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	w.layer = digest.FromBytes(body)
	desc := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: w.layer, Size: int64(len(body))}
	w.img = storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 5},
		Repos:    []oci.Repo{repo}, Layers: []storage.ImageLayer{{Descriptor: desc, SpanSize: spanSize / 16}},
		Index: digest.FromString("index"), IndexSize: 7,
	}
	w.update(func(tx storage.Tx) error {
		row := storage.LayerRow{Digest: w.layer, SpanSize: spanSize / 16, Size: desc.Size, State: storage.LayerIndexed, ZTOC: res.Digest, Spans: res.Spans}
		for _, err := range []error{tx.PutLayer(row), tx.PutSpans(w.layer, spanSize/16, raw), tx.PutImage(w.img)} {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) update(fn func(storage.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// publish does what the indexer does, as far as it matters here.
func (w *world) publish(ctx context.Context, manifest digest.Digest) {
	w.mu.Lock()
	w.published++
	w.mu.Unlock()
	err := w.db.Update(ctx, func(tx storage.Tx) error {
		row, err := tx.Learn(manifest)
		if err != nil {
			return err
		}
		img := w.img
		if len(row.Learnt) > 0 {
			img.Learned = &storage.LearnedIndex{Index: digest.FromString("learned"), Size: 9}
		}
		return tx.PutImage(img)
	})
	if err != nil {
		w.t.Errorf("publish: %v", err)
	}
}

func (w *world) request(addr string) *http.Request {
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, "/", nil)
	r.RemoteAddr = addr + ":1234"
	r.Header.Set("User-Agent", "soci-snapshotter/0.15.0")
	return r
}

// ask gives the index that a client is offered.
func (w *world) ask(addr string) digest.Digest {
	return w.l.Offer(w.request(addr), repo, w.img.Manifest.Digest, v1.Descriptor{Digest: w.img.Index, Size: w.img.IndexSize}, true).Digest
}

// mount and span are what a client reads.
func (w *world) mount(addr string) {
	w.l.Read(w.request(addr), w.layer, oci.Range{Off: 0, End: probe})
	w.l.Read(w.request(addr), w.layer, oci.Range{Off: 0, End: w.table.HeadEnd()})
}

func (w *world) span(addr string, i int) {
	s := w.table.Span(i)
	w.l.Read(w.request(addr), w.layer, oci.Range{Off: s.Off, End: s.End})
	synctest.Wait()
}

// start is a client's whole start.
func (w *world) start(addr string, spans ...int) (offered digest.Digest) {
	offered = w.ask(addr)
	w.mount(addr)
	for _, i := range spans {
		time.Sleep(time.Second)
		w.span(addr, i)
	}
	time.Sleep(30 * time.Second)
	synctest.Wait()
	return offered
}

func (w *world) row() (row storage.LearnRow) {
	w.t.Helper()
	err := w.db.View(w.t.Context(), func(tx storage.Tx) (err error) {
		row, err = tx.Learn(w.img.Manifest.Digest)
		return ignoreAbsent(err)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}
