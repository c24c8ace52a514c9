package referrers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const signature = "application/vnd.example.signature.v1+json"

var (
	repo    = oci.Repo{Upstream: "docker.io", Name: "library/redis"}
	subject = digest.FromString("the image")
)

// newStore has the rows of the descriptors given, made here.
func newStore(t *testing.T, ours ...v1.Descriptor) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	put(t, db, ours...)
	return db
}

func put(t *testing.T, db *bolt.DB, ours ...v1.Descriptor) {
	t.Helper()
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for _, d := range ours {
			if err := tx.PutReferrer(storage.ReferrerRow{Subject: subject, Descriptor: d}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entry makes a descriptor whose digest begins with the hex digits of order,
// so that a test says how entries sort.
func entry(order int, artifactType string) v1.Descriptor {
	return v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, ArtifactType: artifactType, Size: int64(1000 + order),
		Digest: digest.NewDigestFromEncoded(digest.SHA256, fmt.Sprintf("%08x%s", order, strings.Repeat("0", 56))),
	}
}

// answers is an upstream that always gives ds.
func answers(ds ...v1.Descriptor) Upstream {
	return func(context.Context, oci.Repo, digest.Digest) ([]v1.Descriptor, error) { return slices.Clone(ds), nil }
}

func get(t *testing.T, s *Referrers, method, target string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	err := s.Serve(w, httptest.NewRequestWithContext(t.Context(), method, target, nil), repo, subject)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return w.Result()
}

func decode(t *testing.T, resp *http.Response) v1.Index {
	t.Helper()
	var idx v1.Index
	if err := json.NewDecoder(resp.Body).Decode(&idx); err != nil {
		t.Fatal(err)
	}
	return idx
}

const target = "/v2/docker.io/library/redis/referrers/sha256:0"

func filtered(artifactType string) string {
	return target + "?artifactType=" + url.QueryEscape(artifactType)
}

func TestList(t *testing.T) {
	ours, older, theirSOCI := entry(9, oci.MediaTypeSOCIIndexV1), entry(8, oci.MediaTypeSOCIIndexV1), entry(7, oci.MediaTypeSOCIIndexV1)
	sig1, sig2, v2 := entry(1, signature), entry(2, signature), entry(3, oci.MediaTypeSOCIIndexV2)
	untyped := entry(4, "")
	annotated := entry(5, signature)
	annotated.Annotations = map[string]string{"org.example": "<&>"}
	decorated := annotated
	decorated.URLs, decorated.Data, decorated.Platform = []string{"https://example.com"}, []byte("x"), &v1.Platform{OS: "linux"}
	noDigest, noType, negative := entry(1, signature), entry(1, signature), entry(1, signature)
	noDigest.Digest, noType.MediaType, negative.Size = "sha256:1", "", -1

	tests := []struct {
		name     string
		ours     []v1.Descriptor
		upstream Upstream
		filter   string
		want     []v1.Descriptor
	}{
		{name: "none"},
		{name: "none upstream", upstream: answers()},
		{name: "ours", ours: []v1.Descriptor{ours}, want: []v1.Descriptor{ours}},
		{name: "ours first, the rest by digest", ours: []v1.Descriptor{ours},
			upstream: answers(sig2, v2, sig1), want: []v1.Descriptor{ours, sig1, sig2, v2}},
		{name: "ours instead of theirs", ours: []v1.Descriptor{ours},
			upstream: answers(theirSOCI, sig1), want: []v1.Descriptor{ours, sig1}},
		{name: "theirs, the first of two", upstream: answers(sig1, older, theirSOCI), want: []v1.Descriptor{older, sig1}},
		{name: "theirs is ours", ours: []v1.Descriptor{ours}, upstream: answers(ours), want: []v1.Descriptor{ours}},
		{name: "twice the same", upstream: answers(sig1, sig1), want: []v1.Descriptor{sig1}},
		{name: "filtered for SOCI", ours: []v1.Descriptor{ours}, upstream: answers(sig1, theirSOCI),
			filter: oci.MediaTypeSOCIIndexV1, want: []v1.Descriptor{ours}},
		{name: "filtered for SOCI, theirs", upstream: answers(sig1, theirSOCI, older),
			filter: oci.MediaTypeSOCIIndexV1, want: []v1.Descriptor{theirSOCI}},
		{name: "filtered for something else", ours: []v1.Descriptor{ours}, upstream: answers(sig2, v2, sig1, untyped),
			filter: signature, want: []v1.Descriptor{sig1, sig2}},
		{name: "filtered for nothing known", ours: []v1.Descriptor{ours}, upstream: answers(sig1), filter: "no/type"},
		{name: "only what a list is for is passed on", upstream: answers(decorated), want: []v1.Descriptor{annotated}},
		{name: "without a type", upstream: answers(untyped), want: []v1.Descriptor{untyped}},
		{name: "malformed", upstream: answers(noDigest, noType, negative, sig2), want: []v1.Descriptor{sig2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Options{Store: newStore(t, tt.ours...), Upstream: tt.upstream})
			url := target
			if tt.filter != "" {
				url = filtered(tt.filter)
			}
			resp := get(t, s, http.MethodGet, url)
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status %d, want 200", resp.StatusCode)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/vnd.oci.image.index.v1+json" {
				t.Errorf("Content-Type %q", got)
			}
			applied := ""
			if tt.filter != "" {
				applied = "artifactType"
			}
			if got := resp.Header.Get("OCI-Filters-Applied"); got != applied {
				t.Errorf("OCI-Filters-Applied %q, want %q", got, applied)
			}
			idx := decode(t, resp)
			if idx.SchemaVersion != 2 || idx.MediaType != v1.MediaTypeImageIndex {
				t.Errorf("schemaVersion %d, mediaType %q", idx.SchemaVersion, idx.MediaType)
			}
			if diff := cmp.Diff(append([]v1.Descriptor{}, tt.want...), idx.Manifests); diff != "" {
				t.Errorf("manifests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptyListIsNotNull(t *testing.T) {
	resp := get(t, New(Options{Store: newStore(t)}), http.MethodGet, target)
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestHEADHasTheHeadersOfGET(t *testing.T) {
	s := New(Options{Store: newStore(t, entry(1, oci.MediaTypeSOCIIndexV1))})
	for _, target := range []string{target, filtered(signature)} {
		g, h := get(t, s, http.MethodGet, target), get(t, s, http.MethodHead, target)
		if diff := cmp.Diff(g.Header, h.Header); diff != "" {
			t.Errorf("%s: headers (-GET +HEAD):\n%s", target, diff)
		}
		if body, err := io.ReadAll(h.Body); err != nil || len(body) > 0 {
			t.Errorf("%s: HEAD has body %q, error %v", target, body, err)
		}
		if g.Header.Get("Content-Length") == "" {
			t.Errorf("%s: no Content-Length", target)
		}
	}
}

// TestPages follows Link from page to page as a client does.
func TestPages(t *testing.T) {
	const n = 7000
	upstream := make([]v1.Descriptor, n)
	for i := range upstream {
		upstream[i] = entry(n-i, signature)
		upstream[i].Annotations = map[string]string{"k": strings.Repeat("v", 1000)}
	}
	ours := entry(n/2, oci.MediaTypeSOCIIndexV1)
	s := New(Options{Store: newStore(t, ours), Upstream: answers(upstream...)})

	var got []v1.Descriptor
	pages := 0
	for next := target + "?ns=docker.io"; next != ""; pages++ {
		resp := get(t, s, http.MethodGet, next)
		if size, err := strconv.Atoi(resp.Header.Get("Content-Length")); err != nil || size > 4<<20 {
			t.Fatalf("page %d has Content-Length %q", pages, resp.Header.Get("Content-Length"))
		}
		got = append(got, decode(t, resp).Manifests...)
		next = follow(t, resp.Header.Get("Link"))
	}
	if pages != 3 {
		t.Errorf("%d pages, want 3", pages)
	}
	if len(got) != n { // one of the upstream's has the digest of ours
		t.Fatalf("%d entries, want %d", len(got), n)
	}
	if got[0].Digest != ours.Digest || got[0].ArtifactType != ours.ArtifactType {
		t.Errorf("first entry %v, want ours", got[0])
	}
	if !slices.IsSortedFunc(got[1:], func(a, b v1.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) }) {
		t.Error("entries behind the first are not sorted")
	}
}

func follow(t *testing.T, link string) string {
	t.Helper()
	if link == "" {
		return ""
	}
	target, ok := strings.CutPrefix(link, "<")
	target, rel, ok2 := strings.Cut(target, ">")
	if !ok || !ok2 || rel != `; rel="next"` || !strings.Contains(target, "ns=docker.io") {
		t.Fatalf("Link %q", link)
	}
	return target
}

func TestUpstreamTrouble(t *testing.T) {
	ours, theirs := entry(9, oci.MediaTypeSOCIIndexV1), entry(1, signature)
	hangs := func(ctx context.Context, _ oci.Repo, _ digest.Digest) ([]v1.Descriptor, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("ask upstream: %w", context.Cause(ctx))
	}
	fails := func(context.Context, oci.Repo, digest.Digest) ([]v1.Descriptor, error) {
		return []v1.Descriptor{theirs}, errors.New("connection refused")
	}
	for _, tt := range []struct {
		result   string
		upstream Upstream
	}{{resultTimeout, hangs}, {resultError, fails}, {resultOK, answers()}} {
		t.Run(tt.result, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			s := New(Options{Store: newStore(t, ours), Upstream: tt.upstream, Timeout: time.Millisecond, Registerer: reg})
			got := decode(t, get(t, s, http.MethodGet, target)).Manifests
			if len(got) == 0 || got[0].Digest != ours.Digest {
				t.Errorf("got %v, want ours", got)
			}
			if n := testutil.ToFloat64(s.m.upstream.WithLabelValues(tt.result)); n != 1 {
				t.Errorf("counted %v as %s, want 1", n, tt.result)
			}
			if n := testutil.ToFloat64(s.m.lists.WithLabelValues(sociOurs)); n != 1 {
				t.Errorf("counted %v lists with ours, want 1", n)
			}
		})
	}
}

func TestStoreTrouble(t *testing.T) {
	broken := errors.New("broken")
	s := New(Options{Store: brokenStore{broken}})
	w := httptest.NewRecorder()
	err := s.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil), repo, subject)
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if w.Body.Len() > 0 {
		t.Errorf("wrote %q", w.Body)
	}
}

type brokenStore struct{ err error }

func (b brokenStore) View(context.Context, func(storage.Tx) error) error   { return b.err }
func (b brokenStore) Update(context.Context, func(storage.Tx) error) error { return b.err }
