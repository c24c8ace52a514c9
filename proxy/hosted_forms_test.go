package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// TestPushSHA512 pushes blobs and a manifest by sha512, in every way that there is,
// and pulls them.
func TestPushSHA512(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	const uploads = "/v2/local/app/blobs/uploads/"
	for name, push := range map[string]func(body []byte, query string) answer{
		"at once": func(body []byte, query string) answer {
			return s.send(t, http.MethodPost, uploads+query, bytes.NewReader(body))
		},
		"in two requests": func(body []byte, query string) answer {
			return s.send(t, http.MethodPut, s.begin(t, "local/app")+query, bytes.NewReader(body))
		},
		"in chunks": func(body []byte, query string) answer {
			loc := s.send(t, http.MethodPost, uploads+"?digest-algorithm=sha512", nil).header.Get("Location")
			s.chunk(t, http.MethodPatch, loc, body, 0, 300, true)
			return s.chunk(t, http.MethodPut, loc+query, body, 300, len(body), true)
		},
		"in chunks, told in the end": func(body []byte, query string) answer {
			loc := s.begin(t, "local/app")
			s.chunk(t, http.MethodPatch, loc, body, 0, len(body), false)
			return s.send(t, http.MethodPut, loc+query, nil)
		},
	} {
		body := append(random(500, 1), name...)
		d := digest.SHA512.FromBytes(body)
		if a := push(body, "?digest="+d.String()); a.status != http.StatusCreated || a.header.Get("Docker-Content-Digest") != d.String() {
			t.Errorf("%s: %d %s, digest %s", name, a.status, a.body, a.header.Get("Docker-Content-Digest"))
		}
		if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+d.String()); !bytes.Equal(a.body, body) {
			t.Errorf("%s: pulled %d, %d bytes", name, a.status, len(a.body))
		}
	}
	s.pushBlob(t, "local/app", oci.EmptyJSON)
	layer := append(random(500, 1), "at once"...)
	body := image(oci.EmptyDigest, digest.SHA512.FromBytes(layer), len(layer))
	d := digest.SHA512.FromString(body)
	if a := s.putManifest(t, "local/app", d.String(), body); a.status != http.StatusCreated || a.header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("manifest: %d %s", a.status, a.body)
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/manifests/"+d.String()); string(a.body) != body {
		t.Errorf("manifest: pulled %d %s", a.status, a.body)
	}
}

// TestPushDockerImages pushes a Docker image (schema 2) and a list of it: they come
// back byte for byte, as what they are.
func TestPushDockerImages(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	config, layer := []byte(`{"architecture":"amd64","os":"linux"}`), random(500, 1)
	manifest := fmt.Sprintf(`{
   "schemaVersion": 2, "mediaType": %q,
   "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": %d, "digest": %q},
   "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": %d, "digest": %q}]
}`, oci.MediaTypeDockerManifest, len(config), s.pushBlob(t, "local/app", config), len(layer), s.pushBlob(t, "local/app", layer))
	d := digest.FromString(manifest)
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"platform":{"architecture":"amd64","os":"linux"}}]}`,
		oci.MediaTypeDockerManifestList, oci.MediaTypeDockerManifest, len(manifest), d)
	for _, m := range []struct{ ref, mediaType, body string }{
		{d.String(), oci.MediaTypeDockerManifest, manifest}, {"1", oci.MediaTypeDockerManifestList, list},
	} {
		path := "/v2/local/app/manifests/" + m.ref
		if a := s.send(t, http.MethodPut, path, strings.NewReader(m.body), "Content-Type", m.mediaType); a.status != http.StatusCreated {
			t.Fatalf("push %s: %d %s", m.ref, a.status, a.body)
		}
		if a := s.do(t, http.MethodGet, path); string(a.body) != m.body || a.header.Get("Content-Type") != m.mediaType {
			t.Errorf("pull %s: %d, %s: %s", m.ref, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
}
