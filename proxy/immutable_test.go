package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

func TestImmutableTags(t *testing.T) {
	s := newHost(t, Hosting{Immutable: func(repo, tag string) bool { return repo == "app" && strings.HasPrefix(tag, "v") }}, nil)
	m := s.pushImage(t, "local/app", "v1", random(10, 1))
	s.pushImage(t, "local/app", "v1", random(10, 1)) // the same again
	s.pushImage(t, "local/app", "latest", random(10, 1))
	other := random(10, 2)
	body := image(oci.EmptyDigest, s.pushBlob(t, "local/app", other), len(other))
	wantCode(t, "move", s.putManifest(t, "local/app", "v1", body), http.StatusForbidden, "DENIED")
	wantCode(t, "move by a parameter", s.putManifest(t, "local/app", digest.FromString(body).String()+"?tag=v1", body), http.StatusForbidden, "DENIED")
	wantCode(t, "delete", s.do(t, http.MethodDelete, "/v2/local/app/manifests/v1"), http.StatusForbidden, "DENIED")
	wantCode(t, "delete what it means", s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+m.String()), http.StatusForbidden, "DENIED")
	if a := s.do(t, http.MethodHead, "/v2/local/app/manifests/v1"); a.header.Get("Docker-Content-Digest") != m.String() {
		t.Errorf("v1 is %s, want %s", a.header.Get("Docker-Content-Digest"), m)
	}
	if a := s.putManifest(t, "local/app", "latest", body); a.status != http.StatusCreated {
		t.Errorf("another tag: %d %s", a.status, a.body)
	}
}

// TestImmutableImages: what an immutable tag stands for stays whole.
func TestImmutableImages(t *testing.T) {
	s := newHost(t, Hosting{Immutable: func(_, tag string) bool { return strings.HasPrefix(tag, "v") }}, nil)
	layer, other := random(100, 1), random(100, 2)
	child := s.pushImage(t, "local/app", "latest", layer)
	body := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + v1.MediaTypeImageManifest +
		`","digest":"` + child.String() + `","size":` + strconv.Itoa(len(s.do(t, http.MethodGet, "/v2/local/app/manifests/latest").body)) + `}]}`
	if a := s.send(t, http.MethodPut, "/v2/local/app/manifests/v1", strings.NewReader(body), "Content-Type", v1.MediaTypeImageIndex); a.status != http.StatusCreated {
		t.Fatalf("index: %d %s", a.status, a.body)
	}
	s.pushImage(t, "local/app", "next", other)
	for name, path := range map[string]string{
		"a layer of an image of it": "blobs/" + digest.FromBytes(layer).String(), "an image of it": "manifests/" + child.String(),
	} {
		wantCode(t, name, s.do(t, http.MethodDelete, "/v2/local/app/"+path), http.StatusForbidden, "DENIED")
		if a := s.do(t, http.MethodHead, "/v2/local/app/"+path); a.status != http.StatusOK {
			t.Errorf("%s: %d afterwards", name, a.status)
		}
	}
	if a := s.do(t, http.MethodDelete, "/v2/local/app/blobs/"+digest.FromBytes(other).String()); a.status != http.StatusAccepted {
		t.Errorf("a layer of another image: %d %s", a.status, a.body)
	}
	s.pushImage(t, "local/copy", "next", layer)
	if a := s.do(t, http.MethodDelete, "/v2/local/copy/blobs/"+digest.FromBytes(layer).String()); a.status != http.StatusAccepted {
		t.Errorf("the same layer of another repository: %d %s", a.status, a.body)
	}
}
