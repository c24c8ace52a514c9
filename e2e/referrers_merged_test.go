package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
)

// listing is a registry with one image, which two signatures refer to. They are
// listed by the referrers API, or under the fallback tag where it has none.
type listing struct {
	image digest.Digest
	files map[string][]byte // path -> manifest
	list  []byte
	api   bool
}

func newListing(t *testing.T, api bool) *listing {
	l := &listing{files: map[string][]byte{}, api: api}
	image := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{},
	}
	body, err := json.Marshal(image)
	if err != nil {
		t.Fatal(err)
	}
	l.image = digest.FromBytes(body)
	l.files["/v2/app/manifests/"+l.image.String()] = body
	l.setList(t, "a", "b")
	return l
}

const signatureType = "application/vnd.example.signature"

func (l *listing) setList(t *testing.T, names ...string) {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	for _, n := range names {
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: v1.MediaTypeImageManifest, ArtifactType: signatureType, Digest: digest.FromString(n), Size: 1,
		})
	}
	body, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	l.list = body
}

func (l *listing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := l.files[r.URL.Path]
	mediaType := v1.MediaTypeImageManifest
	switch {
	case r.URL.Path == "/v2/":
		return
	case l.api && r.URL.Path == "/v2/app/referrers/"+l.image.String(),
		!l.api && r.URL.Path == "/v2/app/manifests/"+strings.Replace(l.image.String(), ":", "-", 1):
		body, ok, mediaType = l.list, true, v1.MediaTypeImageIndex
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(body).String())
	_, _ = w.Write(body)
}

// TestUpstreamsReferrers: what an upstream lists, by whichever way it has, is
// found through the proxy, also while it is away and after a restart.
func TestUpstreamsReferrers(t *testing.T) {
	for name, api := range map[string]bool{"api": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			l := newListing(t, api)
			s := httptest.NewServer(l)
			defer s.Close()
			p := startProxyWith(t, s.URL, link.Options{}, []string{"SOCIABLE_REFERRERS_TTL=1ns"})
			path := referrersPath("app", l.image)
			if a := p.get(t, manifestPath("app", l.image.String())); a.StatusCode != http.StatusOK {
				t.Fatalf("manifest: %s", a.Status)
			}
			both := p.get(t, path)
			p.checkListed(t, path, 2, "")
			if err := p.link.Down(); err != nil {
				t.Fatal(err)
			}
			p.checkListed(t, path, 2, `299 - "stale`)
			p.checkListed(t, path+"?artifactType="+url.QueryEscape(signatureType), 2, `299 - "stale`)
			p.checkListed(t, path+"?artifactType=application/other", 0, `299 - "stale`)
			p.Kill()
			p.start(t)
			again := p.get(t, path)
			if d := cmp.Diff(string(both.body), string(again.body)); d != "" {
				t.Errorf("after kill -9, upstream away (-before +after):\n%s", d)
			}
			l.setList(t, "c")
			if err := p.link.Up(); err != nil {
				t.Fatal(err)
			}
			p.Kill() // a silent upstream is left alone for a while: by this process
			p.start(t)
			p.checkListed(t, path, 1, "")
		})
	}
}

func (p *proxy) checkListed(t *testing.T, path string, n int, warning string) {
	t.Helper()
	a := p.get(t, path)
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != ociIndex {
		t.Fatalf("%s: %s, Content-Type %q", path, a.Status, a.Header.Get("Content-Type"))
	}
	if got := len(decode[v1.Index](t, a).Manifests); got != n {
		t.Errorf("%s: %d listed, want %d", path, got, n)
	}
	if got := a.Header.Get("Warning"); !strings.HasPrefix(got, warning) || warning == "" && got != "" {
		t.Errorf("%s: Warning %q, want %q", path, got, warning)
	}
}
