package web

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// filled is a Web over a store with one image: an indexed layer, one on the way
// and one that a rule left out.
func filled(t *testing.T) (*Web, *storage.Store, Index) {
	t.Helper()
	store := storagetest.NewStore(t)
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sociable_test"}, func() float64 { return 1 }))
	repo := oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	d := func(s string) digest.Digest { return digest.FromString(s) }
	layer := func(s string, size int64) v1.Descriptor {
		return v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d(s), Size: size}
	}
	row := storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: d("m"), Size: 7}, Repos: []oci.Repo{repo},
		Layers: []storage.ImageLayer{
			{Descriptor: layer("indexed", 20<<20), SpanSize: 4096},
			{Descriptor: layer("wanted", 30<<20), SpanSize: 4096},
			{Descriptor: layer("small", 1000), Skip: "too-small"},
		},
		Index: d("index"), IndexSize: 99,
	}
	err := store.Update(t.Context(), func(tx storage.Tx) error {
		for _, l := range []storage.LayerRow{
			{Digest: d("indexed"), SpanSize: 4096, State: storage.LayerIndexed, ZTOC: d("z"), ZTOCSize: 5, Spans: 3},
			{Digest: d("wanted"), SpanSize: 4096, State: storage.LayerWanted},
		} {
			if err := tx.PutLayer(l); err != nil {
				return err
			}
		}
		if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: "7", Digest: d("m")}); err != nil {
			return err
		}
		if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: "6", Digest: d("other")}); err != nil {
			return err
		}
		return tx.PutImage(row)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Index{
		Repository: "docker.io/library/redis", Tags: []string{"7"}, Manifest: d("m"), Index: d("index"), Size: 99,
		Layers: []Layer{
			{Digest: d("indexed"), Size: 20 << 20, MediaType: v1.MediaTypeImageLayerGzip, State: storage.LayerIndexed, ZTOC: d("z"), ZTOCSize: 5, Spans: 3},
			{Digest: d("wanted"), Size: 30 << 20, MediaType: v1.MediaTypeImageLayerGzip, State: storage.LayerWanted},
			{Digest: d("small"), Size: 1000, MediaType: v1.MediaTypeImageLayerGzip, State: storage.LayerSkipped, Reason: "too-small"},
		},
	}
	return New(Options{Store: store, Gatherer: reg}), store, want
}

func get(t *testing.T, h http.Handler, method, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func TestPublic(t *testing.T) {
	s, _, _ := filled(t)
	tests := []struct {
		path, want string
		status     int
	}{
		{"/metrics", "sociable_test 1", 200},
		{"/healthz", "ok", 200},
		{"/readyz", "ok", 200},
		{"/", "/metrics", 200},
		{"/api/v1/indexes", "", 404}, // names of private repositories are for the owner of the socket
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			status, body := get(t, s.Public(), "GET", tt.path, "")
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("status %d, body %q; want %d, %q", status, body, tt.status, tt.want)
			}
		})
	}
}

func TestIndexes(t *testing.T) {
	s, _, want := filled(t)
	status, body := get(t, s.Local(t.Context()), "GET", "/api/v1/indexes", "")
	var list []Index
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 {
		t.Fatalf("status %d, %v: %s", status, err, body)
	}
	if diff := cmp.Diff([]Index{want}, list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	status, body = get(t, s.Local(t.Context()), "GET", "/api/v1/indexes/"+want.Manifest.String(), "")
	var one Index
	if err := json.Unmarshal([]byte(body), &one); err != nil || status != 200 {
		t.Fatalf("status %d, %v: %s", status, err, body)
	}
	if diff := cmp.Diff(want, one); diff != "" {
		t.Errorf("one (-want +got):\n%s", diff)
	}
}

func TestLocalRefuses(t *testing.T) {
	s, _, _ := filled(t)
	absent := digest.FromString("absent").String()
	tests := []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/api/v1/indexes/" + absent, "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/api/v1/indexes/sha256:12", "", 400, "DIGEST_INVALID"},
		{"POST", "/api/v1/purge", "not json", 400, "NAME_INVALID"},
		{"POST", "/api/v1/purge", `{"digest":"` + absent + `"}`, 400, "NAME_INVALID"},
		{"POST", "/api/v1/purge", `{"name":"../../etc/passwd"}`, 400, "NAME_INVALID"},
		{"POST", "/api/v1/purge", `{"name":"redis:8"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/purge", `{"name":"` + strings.Repeat("a", 5000) + `"}`, 400, "NAME_INVALID"},
		{"POST", "/api/v1/unblock", `{"name":"redis:7"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/refresh", `{"name":"redis:8"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/refresh", `{"name":"redis:-"}`, 400, "TAG_INVALID"},
		{"POST", "/api/v1/pin", `{"name":"` + absent + `"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/unpin", `{"name":"redis:7"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/check", `{"repair":"yes"}`, 400, "NAME_INVALID"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path[:min(len(tt.path), 30)]+" "+tt.code, func(t *testing.T) {
			status, body := get(t, s.Local(t.Context()), tt.method, tt.path, tt.body)
			if status != tt.status || !strings.Contains(body, tt.code) {
				t.Errorf("status %d, body %s; want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
}

func TestPurge(t *testing.T) {
	s, store, _ := filled(t)
	body := []byte("some bytes")
	d := digest.FromBytes(body)
	if err := store.Put(t.Context(), storage.BlobRow{Digest: d, Size: int64(len(body)), Kind: storage.KindBlob}, body, nil); err != nil {
		t.Fatal(err)
	}
	status, answer := get(t, s.Local(t.Context()), "POST", "/api/v1/purge", `{"name":"`+d.String()+`"}`)
	if want := `{"name":"` + d.String() + `","digest":"` + d.String() + `","freed":10,"blobs":1}`; status != 200 || answer != want {
		t.Errorf("status %d, %s", status, answer)
	}
	if _, err := store.Stat(t.Context(), d); err == nil {
		t.Error("the blob is still there")
	}
}
