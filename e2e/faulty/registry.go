package faulty

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerBytes is the size of an image's only layer.
const LayerBytes = 512 << 10

// Tag is what every image is called.
const Tag = "v1"

// Image is what the registry has of one repository.
type Image struct {
	Repo     string
	Manifest digest.Digest // of an image manifest
	Body     []byte        // of the manifest
	Layer    digest.Digest
	Bytes    []byte // of the layer
}

// Registry serves images over HTTP, and over HTTP/2 with TLS.
type Registry struct {
	plain, tls *httptest.Server

	mu     sync.Mutex
	images map[string]*Image
	goAway bool
	asked  map[string]int // requests by repository
}

// New starts a registry on loopback.
func New() *Registry {
	r := &Registry{images: map[string]*Image{}, asked: map[string]int{}}
	r.plain = httptest.NewServer(r)
	r.tls = httptest.NewUnstartedServer(r)
	r.tls.EnableHTTP2 = true
	r.tls.StartTLS()
	return r
}

// URL is its http://host:port.
func (r *Registry) URL() string { return r.plain.URL }

// SecureURL is its https://host:port; Server.Certificate has to be trusted.
func (r *Registry) SecureURL() string { return r.tls.URL }

// Server is the one behind SecureURL.
func (r *Registry) Server() *httptest.Server { return r.tls }

// Close stops it.
func (r *Registry) Close() {
	r.plain.CloseClientConnections()
	r.plain.Close()
	r.tls.CloseClientConnections()
	r.tls.Close()
}

// GoAway has the connection of every answer over HTTP/2 end with GOAWAY, as a
// load balancer does that moves its clients on.
func (r *Registry) GoAway(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.goAway = on
}

// Asked is how many requests for anything in repo came, over either.
func (r *Registry) Asked(repo string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[repo]
}

// Add makes an image that no other repository has anything of.
func (r *Registry) Add(repo string) (*Image, error) {
	i := &Image{Repo: repo, Bytes: make([]byte, LayerBytes)}
	_, _ = rand.NewChaCha8([32]byte([]byte(digest.FromString(repo).Encoded()[:32]))).Read(i.Bytes)
	i.Layer = digest.FromBytes(i.Bytes)
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.DescriptorEmptyJSON,
		Layers: []v1.Descriptor{{MediaType: v1.MediaTypeImageLayer, Digest: i.Layer, Size: LayerBytes}},
	}
	var err error
	if i.Body, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("make %s: %w", repo, err)
	}
	i.Manifest = digest.FromBytes(i.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[repo] = i
	return i, nil
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/token" {
		_, _ = fmt.Fprint(w, `{"token":"good","expires_in":300}`)
		return
	}
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if ok && path == "" {
		return
	}
	var repo, kind, ref string
	for _, k := range []string{"/manifests/", "/blobs/", "/referrers/"} {
		if before, after, found := strings.Cut(path, k); found {
			repo, kind, ref = before, k, after
		}
	}
	r.mu.Lock()
	r.asked[repo]++
	i, away := r.images[repo], r.goAway
	r.mu.Unlock()
	if away && req.ProtoMajor == 2 {
		w.Header().Set("Connection", "close") // net/http's way to say GOAWAY
	}
	if i == nil || !i.serve(w, req, kind, ref) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"errors":[{"code":"NOT_FOUND","message":"unknown"}]}`)
	}
}

// serve answers one request, and reports false where there is nothing to serve.
func (i *Image) serve(w http.ResponseWriter, req *http.Request, kind, ref string) bool {
	body, mediaType := i.Body, v1.MediaTypeImageManifest
	switch {
	case kind == "/manifests/" && (ref == Tag || ref == i.Manifest.String()):
		w.Header().Set("Docker-Content-Digest", i.Manifest.String())
	case kind == "/blobs/" && ref == i.Layer.String():
		body, mediaType = i.Bytes, "application/octet-stream"
	case kind == "/referrers/" && ref == i.Manifest.String():
		body, mediaType = i.referrers(), v1.MediaTypeImageIndex
	default:
		return false
	}
	w.Header().Set("Content-Type", mediaType)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(body))
	return true
}

// referrers lists one signature.
func (i *Image) referrers() []byte {
	body, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("signature of " + i.Repo), Size: 7, ArtifactType: "application/x.signature",
		}},
	})
	if err != nil {
		panic(err) // of values that always can be
	}
	return body
}
