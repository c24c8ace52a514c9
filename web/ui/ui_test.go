package ui

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
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
		Test:    func(_ context.Context, ref string) []Step { return []Step{{"connect", "ok", ref, ""}} },
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
	config := []byte(`{"os":"linux","architecture":"arm64","history":[{"created_by":"ADD base"},{"created_by":"ENV x","empty_layer":true},{"created_by":"RUN <b>make</b>"}]}`)
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

// TestAPI holds that every answer is what the document says.
func TestAPI(t *testing.T) {
	r := newRig(t, nil)
	doc := load(t)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	layer := "/api/v1/layers/" + r.big.Digest().String()
	none := digest.FromString("none").String()
	for _, c := range []struct {
		method, target, body string
		status               int
		want                 string
	}{
		{"GET", "/api/v1/overview", "", 200, `"seconds_left":60`},
		{"GET", "/api/v1/overview?range=7d", "", 200, `"range":"7d"`},
		{"GET", "/api/v1/overview?range=1y", "", 400, "UNSUPPORTED"},
		{"GET", "/api/v1/overview?ranges=1h", "", 400, "this takes range"},
		{"GET", "/api/v1/images?orderr=desc", "", 400, `there is no parameter`},
		{"GET", "/api/v1/images?limit=many", "", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/api/v1/missing?q=x", "", 400, "this takes none"},
		{"GET", "/api/v1/images?q=redis&sort=size&order=desc&limit=5", "", 200, `"platform":"linux/arm64"`},
		{"GET", "/api/v1/images?sort=colour", "", 400, "there is no column"},
		{"GET", "/api/v1/images?offset=-1", "", 400, "offset is a number"},
		{"GET", "/api/v1/images/" + r.image.String(), "", 200, `"artifact_type":"application/vnd.dev.cosign"`},
		{"GET", "/api/v1/images/" + none, "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/api/v1/images/sha256:12", "", 400, "DIGEST_INVALID"},
		{"GET", layer, "", 200, `"span_list":[{"number":0`},
		{"GET", layer + "/checkpoints?limit=2", "", 200, `"checkpoints":[{"span":0`},
		{"GET", layer + "/files", "", 200, `"status":"added"`},
		{"GET", "/api/v1/layers/" + r.small.String() + "/files?path=etc&image=" + r.image.String(), "", 200, `"path":"etc/new"`},
		{"GET", "/api/v1/layers/" + r.small.String() + "/files?search=NEW&image=" + r.image.String(), "", 200, `"path":"etc/new"`},
		{"GET", "/api/v1/layers/" + none + "/files", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", layer + "/files?path=none", "", 404, "has no folder"},
		{"GET", "/api/v1/layers/" + r.small.String(), "", 200, `"reason":"too-small"`},
		{"GET", layer + "?image=" + none, "", 404, "no image " + none},
		{"GET", "/api/v1/layers/" + none + "?image=" + r.image.String(), "", 404, "with the layer " + none},
		{"GET", layer + "/file?name=none", "", 404, "BLOB_UNKNOWN"},
		{"GET", layer + "/file", "", 400, "NAME_INVALID"},
		{"GET", "/api/v1/layers/" + r.small.String() + "/ztoc?image=" + r.image.String(), "", 404, "too-small"},
		{"GET", "/api/v1/jobs", "", 200, `"failed":1`},
		{"POST", "/api/v1/jobs/retry", `{"id":"none"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/jobs/retry", `{"name":"x"}`, 400, "NAME_INVALID"},
		{"POST", "/api/v1/jobs/retry", `{"id":""}`, 200, `{"jobs":1}`},
		{"POST", "/api/v1/jobs/cancel", `{"id":"none"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/jobs/cancel", `{"id":"layer:` + r.big.Digest().String() + `/5"}`, 200, `{"jobs":1}`},
		{"GET", "/api/v1/jobs", "", 200, `"cancelled":1`},
		{"GET", "/api/v1/missing", "", 200, `"images":["docker.io/library/redis:`},
		{"GET", "/api/v1/setup", "", 200, "registries.yaml"},
		{"POST", "/api/v1/setup/test", `{"image":""}`, 200, `127.0.0.1:5000/docker.io/library/redis:7`},
		{"POST", "/api/v1/setup/test", `{"image":"../x"}`, 400, "NAME_INVALID"},
		{"GET", "/api/v1/openapi.json", "", 200, "openapi"},
	} {
		t.Run(c.method+" "+strings.TrimPrefix(c.target, "/api/v1")+c.body, func(t *testing.T) {
			w := r.do(c.method, c.target, c.body, "Content-Type", "application/json")
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Fatalf("status %d, want %d with %q: %.2000s", w.Code, c.status, c.want, w.Body)
			}
			req := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
			req.Header.Set("Content-Type", "application/json")
			route, vars, err := router.FindRoute(req)
			if err != nil {
				t.Fatal(err)
			}
			err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: vars, Route: route},
				Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
			})
			if err != nil {
				t.Errorf("the answer is not what the document says: %v", err)
			}
		})
	}
	for target, status := range map[string]int{"/api/v1/none": 404, "/api/v2": 404, "/api/v1/jobs": 405} {
		if w := r.do("DELETE", target, ""); w.Code != status || !strings.Contains(w.Body.String(), `"code":"UNSUPPORTED"`) {
			t.Errorf("DELETE %s: %d %s, want %d", target, w.Code, w.Body, status)
		}
	}
}

// TestFile reads a file out of a layer that is not whole here: by its spans alone.
func TestFile(t *testing.T) {
	r := newRig(t, nil)
	name := firstFile(t, r.big.Body)
	target := "/api/v1/layers/" + r.big.Digest().String() + "/file?name=" + name
	here := r.do("GET", target, "")
	if here.Code != 200 || here.Body.Len() == 0 || r.ranges.asked != 0 {
		t.Fatalf("from the whole layer: %d, %d bytes, %d asked for", here.Code, here.Body.Len(), r.ranges.asked)
	}
	head := r.do("HEAD", target, "")
	if n := strconv.Itoa(here.Body.Len()); head.Code != 200 || head.Header().Get("Content-Length") != n || here.Header().Get("Content-Length") != n || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes, headers %v, want those of GET: %v", head.Code, head.Body.Len(), head.Header(), here.Header())
	}
	if got := here.Header().Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename=") {
		t.Errorf("disposition %q", got)
	}
	if _, err := r.store.Purge(t.Context(), r.big.Digest()); err != nil {
		t.Fatal(err)
	}
	got := r.do("GET", target, "")
	if got.Code != 200 || !bytes.Equal(got.Body.Bytes(), here.Body.Bytes()) {
		t.Errorf("by its spans: %d, %d bytes, want %d", got.Code, got.Body.Len(), here.Body.Len())
	}
	if r.ranges.asked == 0 || r.ranges.asked > r.big.Row.Size/2 {
		t.Errorf("%d of %d bytes were asked for", r.ranges.asked, r.big.Row.Size)
	}
	r.ranges.by[r.big.Digest()] = bytes.Repeat([]byte{7}, len(r.big.Body))
	if got := r.do("GET", target, ""); got.Code < 500 {
		t.Errorf("from wrong bytes: %d, %q", got.Code, got.Body)
	}
	z := r.do("GET", "/api/v1/layers/"+r.big.Digest().String()+"/ztoc", "")
	if z.Code != 200 || digest.FromBytes(z.Body.Bytes()) != r.big.Row.ZTOC {
		t.Errorf("zTOC: %d, %d bytes", z.Code, z.Body.Len())
	}
}

// TestPages holds that pages come, say what they should, escape what is not theirs,
// and load nothing that is not here.
func TestPages(t *testing.T) {
	r := newRig(t, nil)
	for target, want := range map[string][]string{
		"/":                                  {"Hit ratio", "held", "429"},
		"/?range=24h":                        {"24h"},
		"/images":                            {"docker.io/library/redis:7", "linux/arm64"},
		"/images?q=nothing":                  {"No image here has"},
		"/images/" + r.image.String():        {"RUN &lt;b&gt;make&lt;/b&gt;", "application/spdx&#43;json", "docker pull 127.0.0.1:5000/docker.io/library/redis:7"},
		"/layers/" + r.big.Digest().String(): {"spans were read by ranges", "Checkpoints", "layer 1 of 2"},
		"/layers/" + r.small.String() + "?image=" + r.image.String(): {"a&#34;b&lt;c&gt;", "wasted below", "too-small"},
		"/jobs":                {"&lt;i&gt;disk&lt;/i&gt; full", "Retry"},
		"/missing":             {"docker.io/library/redis"},
		"/setup?client=podman": {`location = &#34;127.0.0.1:5000/docker.io&#34;`},
		"/login":               {"Log in"},
	} {
		w := r.do("GET", target, "")
		body := w.Body.String()
		for _, s := range append(want, "<main") {
			if w.Code != 200 || !strings.Contains(body, s) {
				t.Errorf("%s: %d, has no %q", target, w.Code, s)
			}
		}
		for _, never := range []string{"<b>make", "<i>disk", "b<c>", " style=", "javascript:", " onclick", "http://www", "%!"} {
			if strings.Contains(body, never) {
				t.Errorf("%s has %q", target, never)
			}
		}
		if w.Header().Get("Content-Security-Policy") != policy || len(body) > 100_000 {
			t.Errorf("%s: %d bytes, policy %q", target, len(body), w.Header().Get("Content-Security-Policy"))
		}
	}
	for target, status := range map[string]int{"/nothing": 404, "/images/sha256:12": 400, "/setup?client=x": 400, "/assets/none.js": 404} {
		if w := r.do("GET", target, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
	}
	for name := range assets {
		if w := r.do("GET", assetURL(name), ""); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", name, w.Code, w.Header())
		}
	}
	if w := r.do("POST", "/jobs/retry", "id=", "Content-Type", "application/x-www-form-urlencoded"); w.Code != 303 {
		t.Errorf("retry: %d", w.Code)
	}
}

// TestOthersChangeNothing: what another site's page sends is refused, and so is
// reading by another name where nobody logs in.
func TestOthersChangeNothing(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Hosts = []string{"ops.example"} })
	for _, c := range []struct {
		method, target string
		header         []string
		status         int
	}{
		{"POST", "/jobs/retry", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/jobs/retry", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", "/jobs/retry", []string{"Origin", "http://evil.example"}, 403},
		{"POST", "/api/v1/jobs/retry", []string{"Origin", "null", "Content-Type", "application/json"}, 403},
		{"POST", "/api/v1/jobs/retry", []string{"Content-Type", "text/plain"}, 415},
		{"GET", "/jobs/retry", nil, 404},
		{"GET", "/", []string{"Host", "evil.example"}, 421},
		{"GET", "/api/v1/images", []string{"Host", "evil.example:5001"}, 421},
		{"GET", "/", []string{"Host", "localhost:5001"}, 200},
		{"GET", "/", []string{"Host", "[::1]:5001"}, 200},
		{"GET", "/", []string{"Host", "ops.example"}, 200},
		{"GET", "/", []string{"Host", "192.0.2.1"}, 421},
	} {
		if w := r.do(c.method, c.target, `{"id":""}`, c.header...); w.Code != c.status {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.target, c.header, w.Code, w.Body, c.status)
		}
	}
	var j Jobs
	if err := json.Unmarshal(r.do("GET", "/api/v1/jobs", "").Body.Bytes(), &j); err != nil || j.Failed != 1 {
		t.Errorf("%d jobs failed, want 1 still: %v", j.Failed, err)
	}
}
