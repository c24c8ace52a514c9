package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// sick is a registry with one indexed image, and what is wrong with it.
type sick struct {
	blobs     map[digest.Digest][]byte
	manifests map[string][]byte // by tag and by digest
	types     map[string]string
	list      v1.Index
	spoil     func(w http.ResponseWriter, r *http.Request) (done bool)
}

func newSick(t *testing.T) *sick {
	t.Helper()
	layer, zTOC := layerOnce(t)
	s := &sick{blobs: map[digest.Digest][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}}
	config := s.blob([]byte("{}"))
	ld, zd := s.blob(layer), s.blob(zTOC)
	layerOf := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: ld, Size: int64(len(layer))}
	image := s.put(t, "1", v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: config, Size: 2}, Layers: []v1.Descriptor{layerOf},
	})
	body, err := indexer.EncodeIndexV1(image, []indexer.IndexLayer{{Layer: layerOf, ZTOC: zd, ZTOCSize: int64(len(zTOC)), SpanSize: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	index := digest.FromBytes(body)
	s.manifests[index.String()], s.types[index.String()] = body, v1.MediaTypeImageManifest
	s.list = v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{{
		MediaType: v1.MediaTypeImageManifest, Digest: index, Size: int64(len(body)), ArtifactType: oci.MediaTypeSOCIIndexV1,
	}}}
	return s
}

func (s *sick) blob(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	s.blobs[d] = b
	return d
}

func (s *sick) put(t *testing.T, tag, typ string, m any) v1.Descriptor {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(body)
	for _, ref := range []string{tag, d.String()} {
		s.manifests[ref], s.types[ref] = body, typ
	}
	return v1.Descriptor{MediaType: typ, Digest: d, Size: int64(len(body))}
}

var once struct {
	sync.Once
	layer, zTOC []byte
}

func layerOnce(t *testing.T) (layer, zTOC []byte) {
	once.Do(func() {
		once.layer = makeLayer(t)
		once.zTOC = makeZTOC(t, once.layer)
	})
	return once.layer, once.zTOC
}

// makeLayer is a gzip layer of several spans.
func makeLayer(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	noise := rand.NewChaCha8([32]byte{1})
	for i := range 3 {
		body := make([]byte, 1<<20)
		_, _ = noise.Read(body) // never fails
		if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("file%d", i), Size: int64(len(body)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (s *sick) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.spoil != nil && s.spoil(w, r) {
		return
	}
	_, rest, _ := strings.Cut(r.URL.Path, "/v2/up/app/")
	kind, ref, _ := strings.Cut(rest, "/")
	switch {
	case r.URL.Path == "/v2/":
	case kind == "manifests" && s.manifests[ref] != nil:
		w.Header().Set("Content-Type", s.types[ref])
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(s.manifests[ref]).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(s.manifests[ref])))
		_, _ = w.Write(s.manifests[ref])
	case kind == "referrers":
		w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
		w.Header().Set("OCI-Filters-Applied", "artifactType")
		_ = json.NewEncoder(w).Encode(s.list)
	case kind == "blobs" && s.blobs[digest.Digest(ref)] != nil:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.blobs[digest.Digest(ref)]))
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"it is not here"}]}`))
	}
}

// on spoils the requests whose path and method fit.
func on(part string, then func(w http.ResponseWriter, r *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, part) && then(w, r)
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		return true
	}
}

// TestWalk: of a healthy registry, and of each illness, the finding that ends the
// walk, or warns.
func TestWalk(t *testing.T) {
	for name, tt := range map[string]struct {
		sicken func(s *sick)
		step   string
		want   Verdict
		words  string
	}{
		"healthy":      {func(*sick) {}, "range", OK, "lazy loading works"},
		"no registry":  {func(s *sick) { s.spoil = on("/v2/", status(500)) }, "api", Fail, "answered 500"},
		"unknown tag":  {func(s *sick) { delete(s.manifests, "1") }, "manifest", Fail, "it is not here"},
		"not allowed":  {func(s *sick) { s.spoil = on("/manifests/", status(403)) }, "manifest", Fail, "may not be pulled"},
		"upstream bad": {func(s *sick) { s.spoil = on("/manifests/", status(502)) }, "manifest", Fail, "502"},
		"other bytes": {func(s *sick) {
			s.spoil = on("/manifests/1", func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Docker-Content-Digest", digest.FromString("another").String())
				_, _ = w.Write(s.manifests["1"])
				return true
			})
		}, "manifest", Fail, "the bytes are"},
		"no header": {func(s *sick) {
			s.spoil = on("/manifests/1", func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					w.WriteHeader(200)
					return true
				}
				return false
			})
		}, "manifest", Warn, "Docker-Content-Digest"},
		"no referrers": {func(s *sick) { s.spoil = on("/referrers/", status(404)) }, "referrers", Fail, "404"},
		"being made": {func(s *sick) {
			s.spoil = on("/referrers/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(503)
				return true
			})
		}, "referrers", Warn, "not yet (503, Retry-After: 1)"},
		"charset": {func(s *sick) {
			s.spoil = on("/referrers/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", v1.MediaTypeImageIndex+"; charset=utf-8")
				_ = json.NewEncoder(w).Encode(s.list)
				return true
			})
		}, "referrers", Fail, "Content-Type"},
		"unfiltered":  {func(s *sick) { s.list.Manifests = append(s.list.Manifests, v1.Descriptor{ArtifactType: "x/y"}) }, "referrers", Fail, "filtered"},
		"two indexes": {func(s *sick) { s.list.Manifests = append(s.list.Manifests, s.list.Manifests[0]) }, "referrers", Warn, "2 SOCI v1 indexes"},
		"no index":    {func(s *sick) { s.list.Manifests = nil }, "referrers", Fail, "pulled whole"},
		"only v2": {func(s *sick) {
			s.list.Manifests, s.manifests["1-soci"] = nil, []byte("{}")
		}, "referrers", Warn, ":1-soci"},
		"index gone": {func(s *sick) { delete(s.manifests, s.list.Manifests[0].Digest.String()) }, "index", Fail, "not to be had"},
		"not canonical": {func(s *sick) {
			d := &s.list.Manifests[0]
			body := append(s.manifests[d.Digest.String()], '\n')
			d.Digest = digest.FromBytes(body)
			s.manifests[d.Digest.String()], s.types[d.Digest.String()] = body, v1.MediaTypeImageManifest
		}, "index", Fail, "written as clients"},
		"ztoc gone": {func(s *sick) {
			s.spoil = on("/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
				return r.Header.Get("Range") == "" && status(404)(w, r)
			})
		}, "ztoc", Fail, "not to be had"},
		"no ranges": {func(s *sick) {
			s.spoil = on("/blobs/", func(_ http.ResponseWriter, r *http.Request) bool {
				r.Header.Del("Range")
				return false
			})
		}, "range", Fail, "200, not 206"},
		"rotten span": {func(s *sick) {
			for d, b := range s.blobs {
				if len(b) > 1<<20 {
					s.blobs[d] = append(bytes.Clone(b[:len(b)/2]), bytes.Repeat([]byte{7}, len(b)-len(b)/2)...)
				}
			}
		}, "range", Fail, "I/O errors"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSick(t)
			tt.sicken(s)
			srv := httptest.NewServer(s)
			defer srv.Close()
			report, err := Walk(t.Context(), Options{Reference: strings.TrimPrefix(srv.URL, "http://") + "/up/app:1"})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Step == tt.step && f.Verdict == tt.want && strings.Contains(f.What, tt.words) {
					if f.Verdict == OK && f.Mend != "" {
						t.Errorf("a healthy registry is to be mended: %+v", f)
					}
					return
				}
			}
			t.Errorf("no finding %s at %s with %q in %+v", tt.want, tt.step, tt.words, report.Findings)
		})
	}
}

// TestLooksOnly: each request says that it is the doctor's, so that none counts as a
// pull, or as what a start reads.
func TestLooksOnly(t *testing.T) {
	s := newSick(t)
	asked := make(chan string, 1000)
	s.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		asked <- r.UserAgent()
		if r.URL.Path == "/v2/" && r.Header.Get("Authorization") == "" { // to have it log in
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	keys := authn.NewKeychainFromHelper(helper{})
	report, err := Walk(t.Context(), Options{Reference: host + "/up/app:1", Keychain: keys})
	if err != nil || len(asked) < 6 {
		t.Fatalf("%d requests, %v: %+v", len(asked), err, report)
	}
	for range len(asked) {
		if got := <-asked; got != oci.DoctorAgent {
			t.Errorf("a request of %q", got)
		}
	}
}

type helper struct{}

func (helper) Get(string) (user, password string, err error) { return "alice", "wonder", nil }

// TestDoor: names and addresses that lead nowhere.
func TestDoor(t *testing.T) {
	if _, err := Walk(t.Context(), Options{Reference: "redis:7"}); err != nil {
		t.Errorf("a host with a port: %v", err)
	}
	if _, err := Walk(t.Context(), Options{Reference: "library/redis:7"}); err == nil {
		t.Error("an image without a host is taken")
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(srv.URL, "http://")
	srv.Close()
	report, err := Walk(t.Context(), Options{Reference: host + "/up/app:1"})
	if err != nil || report.Worst() != Fail || report.Findings[0].Step != "connect" {
		t.Errorf("nobody there: %+v, %v", report, err)
	}
}

func makeZTOC(t *testing.T, layer []byte) []byte {
	t.Helper()
	b, err := ztoc.NewBuilder(1<<20, ztoc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(layer); err != nil {
		t.Fatal(err)
	}
	r, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	if _, err := r.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
