package indexer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var redis = oci.Repo{Upstream: "docker.io", Name: "library/redis"}

// everything wants every layer of every image, in small spans.
var everything = []Rule{{Repositories: []string{"**"}, SpanSize: 64 << 10}}

// world is a store on disk and an Indexer that runs over it, both in the
// bubble of a synctest: w.settle returns when nothing is left to do.
type world struct {
	t     *testing.T
	dir   string
	db    *bolt.DB
	store *storage.Store
	x     *Indexer
	stop  func()
}

// start opens the store in dir and runs an Indexer over it. wrap, if not nil,
// stands between the two.
func start(t *testing.T, dir string, o Options, wrap func(Store) Store) *world {
	t.Helper()
	blobs, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, db: db, store: storage.New(storage.Options{Blobs: blobs, Meta: db})}
	o.Store = w.store
	if wrap != nil {
		o.Store = wrap(w.store)
	}
	o.SpillDir = t.TempDir()
	w.x = New(o)
	w.stop = sync.OnceFunc(w.run())
	t.Cleanup(w.stop)
	return w
}

// run starts Store and Indexer; what it returns stops both, the Indexer first.
func (w *world) run() (stop func()) {
	storeCtx, stopStore := context.WithCancel(context.Background())
	ctx, stopIndexer := context.WithCancel(context.Background())
	var store, indexer sync.WaitGroup
	store.Go(func() { w.check("run store", w.store.Run(storeCtx)) })
	indexer.Go(func() { w.check("run indexer", w.x.Run(ctx)) })
	return func() {
		stopIndexer()
		indexer.Wait()
		stopStore()
		store.Wait()
		w.check("close rows", w.db.Close())
	}
}

func (w *world) check(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// settle waits until nobody has anything to do but wait for time to pass.
func (w *world) settle() { synctest.Wait() }

func (w *world) view(fn func(storage.Tx) error) {
	w.t.Helper()
	w.check("view", w.store.View(w.t.Context(), fn))
}

// manifest says that img was stored and found in repo, as the proxy does.
func (w *world) manifest(repo oci.Repo, img *image) {
	w.t.Helper()
	row := storage.ManifestRow{Digest: img.digest, Size: int64(len(img.body)), Manifest: img.manifest}
	w.check("note manifest", w.x.Manifest(w.t.Context(), repo, row))
}

// keep stores a layer as the proxy does when its last byte was verified.
func (w *world) keep(body []byte) {
	w.t.Helper()
	wr, err := w.store.Create(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = wr.Write(body)
	row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindBlob}
	w.check("store layer", errors.Join(err, wr.Commit(w.t.Context(), row, storage.Cached), wr.Close()))
}

// whole is keep and then Whole.
func (w *world) whole(body []byte) {
	w.t.Helper()
	w.keep(body)
	w.x.Whole(digest.FromBytes(body))
}

// tap says that a fetch of body begins, and gives all of it at once.
func (w *world) tap(body []byte) {
	w.x.Tap(digest.FromBytes(body), int64(len(body)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body)), nil
	})
}

func (w *world) layer(d digest.Digest) (row storage.LayerRow) {
	w.t.Helper()
	w.view(func(tx storage.Tx) (err error) {
		row, err = tx.Layer(d, everything[0].SpanSize)
		return err
	})
	return row
}

func (w *world) referrers(d digest.Digest) (ds []v1.Descriptor) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		return tx.Referrers(d, func(row storage.ReferrerRow) error {
			ds = append(ds, row.Descriptor)
			return nil
		})
	})
	return ds
}

func (w *world) jobs() (jobs []storage.JobRow) {
	w.t.Helper()
	w.view(func(tx storage.Tx) error {
		jobs = nil
		return tx.Jobs(func(j storage.JobRow) error {
			jobs = append(jobs, j)
			return nil
		})
	})
	return jobs
}

// read gives the bytes of a stored blob.
func (w *world) read(d digest.Digest) []byte {
	w.t.Helper()
	b, err := w.store.Open(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	w.check("read blob", errors.Join(err, b.Close()))
	return body
}

// wantIndex checks that exactly one SOCI index of img is listed, that it is
// whole, with its zTOCs and config, and that it names these layers.
func (w *world) wantIndex(img *image, layers ...[]byte) v1.Descriptor {
	w.t.Helper()
	ds := w.referrers(img.digest)
	if len(ds) != 1 {
		w.t.Fatalf("%d referrers of the image, want 1", len(ds))
	}
	d := ds[0]
	if d.ArtifactType != oci.MediaTypeSOCIIndexV1 || d.MediaType != v1.MediaTypeImageManifest {
		w.t.Errorf("listed as %q, %q", d.MediaType, d.ArtifactType)
	}
	body := w.read(d.Digest)
	if int64(len(body)) != d.Size || digest.FromBytes(body) != d.Digest {
		w.t.Errorf("index has %d bytes, digest %s", len(body), digest.FromBytes(body))
	}
	m, err := oci.ParseManifest(body, "")
	if err != nil {
		w.t.Fatal(err)
	}
	if m.Subject == nil || m.Subject.Digest != img.digest || m.Subject.Size != int64(len(img.body)) {
		w.t.Errorf("subject %+v", m.Subject)
	}
	if got := w.read(m.Config.Digest); string(got) != "{}" {
		w.t.Errorf("config %q", got)
	}
	var got, want []string
	for _, l := range m.Layers {
		got = append(got, l.Annotations[annotationLayerDigest])
		if body := w.read(l.Digest); digest.FromBytes(body) != l.Digest || int64(len(body)) != l.Size {
			w.t.Errorf("zTOC %s is %d bytes with digest %s", l.Digest, len(body), digest.FromBytes(body))
		}
	}
	for _, l := range layers {
		want = append(want, digest.FromBytes(l).String())
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("index names layers\n%q, want\n%q", got, want)
	}
	w.view(func(tx storage.Tx) error {
		row, err := tx.Manifest(d.Digest)
		if err == nil && row.Manifest.ArtifactType != oci.MediaTypeSOCIIndexV1 {
			w.t.Errorf("manifest row %+v", row)
		}
		return err
	})
	return d
}

func (w *world) wantNoIndex(img *image) {
	w.t.Helper()
	if ds := w.referrers(img.digest); len(ds) != 0 {
		w.t.Errorf("%d referrers of the image, want none", len(ds))
	}
}

// image is an image manifest.
type image struct {
	body     []byte
	digest   digest.Digest
	manifest oci.Manifest
}

const gzipLayer = v1.MediaTypeImageLayerGzip

// newImage makes an image of gzip layers; name tells it from others.
func newImage(t testing.TB, name string, layers ...[]byte) *image {
	t.Helper()
	return typedImage(t, name, slices.Repeat([]string{gzipLayer}, len(layers)), layers...)
}

func typedImage(t testing.TB, name string, types []string, layers ...[]byte) *image {
	t.Helper()
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config:      v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromString(name), Size: int64(len(name))},
		Annotations: map[string]string{"name": name},
	}
	for i, l := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types[i], Digest: digest.FromBytes(l), Size: int64(len(l))})
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return parseImage(t, body, v1.MediaTypeImageManifest)
}

func parseImage(t testing.TB, body []byte, mediaType string) *image {
	t.Helper()
	m, err := oci.ParseManifest(body, mediaType)
	if err != nil {
		t.Fatal(err)
	}
	return &image{body: body, digest: digest.FromBytes(body), manifest: *m}
}

// newTar makes a tar of a few files of size bytes together that do not compress.
func newTar(t testing.TB, seed uint64, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	for i := range 4 {
		body := make([]byte, size/4)
		_, _ = r.Read(body)
		h := &tar.Header{Name: fmt.Sprintf("dir/file%d", i), Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compress(t testing.TB, p []byte, head gzip.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	zw.Header = head
	_, err := zw.Write(p)
	if err = errors.Join(err, zw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// newLayer makes a gzip layer of several spans.
func newLayer(t testing.TB, seed uint64) []byte {
	t.Helper()
	return compress(t, newTar(t, seed, 300<<10), gzip.Header{})
}

// inBubble runs a test under synctest.
func inBubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

// badLink makes a tar with a hard link to a file that it has not.
func badLink(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	err := tw.WriteHeader(&tar.Header{Name: "a", Linkname: "b", Typeflag: tar.TypeLink})
	if err = errors.Join(err, tw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
