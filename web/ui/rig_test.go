package ui

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/storagetest"
	"github.com/sociable/sociable/web"
	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/web/series"
	"github.com/sociable/sociable/web/trouble"
)

var redis = oci.Repo{Upstream: "docker.io", Name: "library/redis"}

// rig is a UI over a store with one image: a large indexed layer, and on it a
// small one that is whole here.
type rig struct {
	t       *testing.T
	store   *storage.Store
	big     *storagetest.Layer
	small   digest.Digest
	image   digest.Digest
	ranges  *bodies
	handler http.Handler
	catalog *catalog.Catalog
}

// bodies is a proxy that has every blob.
type bodies struct {
	by    map[digest.Digest][]byte
	asked int64
}

func (b *bodies) ReadRange(_ context.Context, repo oci.Repo, d digest.Digest, r oci.Range, w io.Writer) error {
	if repo != redis {
		return fmt.Errorf("%s asked for", repo)
	}
	b.asked += r.Len()
	_, err := w.Write(b.by[d][r.Off:r.End])
	return err
}

type entry struct{ name, body string }

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	watch := catalog.NewWatch(db)
	r := &rig{t: t, store: storagetest.Start(t, dir, storage.Options{Meta: watch}), big: storagetest.NewLayer(t, "x", 300_000, 16<<10)}
	r.fill()
	reg := prometheus.NewRegistry()
	r.catalog = catalog.New(watch, r.store, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.catalog.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	o := Options{
		Store: r.store, Gatherer: reg, Catalog: r.catalog, Recorder: series.New(series.Options{Gatherer: reg, Rows: r.store}),
		Trouble: trouble.NewLog(nil), Ranges: r.ranges, Listen: "127.0.0.1:5000", Default: "docker.io", Version: "test", Open: func() bool { return true },
		Upstreams: func() []Upstream { return []Upstream{{Name: "docker.io"}, {Name: "local", Hosted: true}} },
		Health: func() []web.Health {
			return []web.Health{{Name: "upstream docker.io https://registry-1.docker.io", State: "held", Left: time.Minute, Why: "429"}}
		},
		Running: func() []oci.Building { return []oci.Building{{Layer: r.big.Digest(), Bytes: 1000}} },
		Name: func(word string) (oci.Repo, oci.Reference, error) {
			if word != "redis:7" && word != redis.String()+":7" {
				return oci.Repo{}, oci.Reference{}, oci.NewError(errcode.ErrorCodeNameInvalid, "no name: %s", word)
			}
			return redis, oci.Reference{Tag: "7"}, nil
		},
		Test: func(_ context.Context, ref string) []Step { return []Step{{Step: "connect", Verdict: "ok", What: ref}} },
	}
	if change != nil {
		change(&o)
	}
	r.handler = New(o).Handler()
	for deadline := time.Now().Add(time.Minute); r.catalog.Page(catalog.Query{Limit: 1}).Matches == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the image is not in the list")
		}
		time.Sleep(time.Millisecond)
	}
	return r
}

// fill stores the image.
func (r *rig) fill() {
	t := r.t
	r.big.Store(t, r.store)
	first := firstFile(t, r.big.Body)
	body := archive(t, entry{"etc/", ""}, entry{"etc/new", "hello"}, entry{first, "other"}, entry{"gone/.wh.x", ""}, entry{"a\"b<c>", "odd"})
	r.small, r.image = digest.FromBytes(body), digest.FromString("m")
	r.ranges = &bodies{by: map[digest.Digest][]byte{r.big.Digest(): r.big.Body}}
	config := []byte(`{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":["` + configDiffID + `","` + digest.FromString("small").String() + `"]},"history":[{"created_by":"ADD base"},{"created_by":"ENV x","empty_layer":true},{"created_by":"RUN <b>make</b>"}]}`)
	for _, b := range [][]byte{body, config} {
		if err := r.store.Put(t.Context(), storage.BlobRow{Digest: digest.FromBytes(b), Size: int64(len(b)), Kind: storage.KindBlob}, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	layers := []v1.Descriptor{
		{MediaType: v1.MediaTypeImageLayerGzip, Digest: r.big.Digest(), Size: r.big.Row.Size},
		{MediaType: v1.MediaTypeImageLayerGzip, Digest: r.small, Size: int64(len(body))},
	}
	row := storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: r.image}, Repos: []oci.Repo{redis}, Index: digest.FromString("index"),
		Layers: []storage.ImageLayer{{Descriptor: layers[0], SpanSize: r.big.Row.SpanSize}, {Descriptor: layers[1], Skip: "too-small"}},
	}
	sig := v1.Descriptor{Digest: digest.FromString("sig"), ArtifactType: "application/vnd.dev.cosign", Size: 7}
	sbom := v1.Descriptor{Digest: digest.FromString("sbom"), ArtifactType: "application/spdx+json", Size: 8}
	err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		for _, err := range []error{
			tx.PutImage(row), tx.PutTag(storage.TagRow{Repo: redis, Tag: "7", Digest: r.image}),
			tx.PutManifest(storage.ManifestRow{Digest: r.image, Manifest: oci.Manifest{
				MediaType: v1.MediaTypeImageManifest, Config: &v1.Descriptor{Digest: digest.FromBytes(config)}, Layers: layers,
			}}),
			tx.PutReferrer(storage.ReferrerRow{Subject: r.image, Descriptor: sbom}),
			tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: redis, Subject: sbom.Digest, Referrers: []v1.Descriptor{sig}}),
			tx.PutMissing(storage.MissingRow{Repo: redis, Reference: "8", Asked: 3, First: time.Unix(1e9, 0), Last: time.Unix(1e9, 0)}),
			tx.PutJob(storage.JobRow{Layer: oci.Layer{Repo: redis, Descriptor: layers[0]}, SpanSize: 5, Failed: true, Attempts: 9, LastError: "<i>disk</i> full", Created: time.Unix(1e9, 0)}),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// firstFile is the name of the first file in a layer.
func firstFile(t *testing.T, layer []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			return h.Name
		}
	}
}

func (r *rig) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(body))
	req.Host = "127.0.0.1:5001"
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}
