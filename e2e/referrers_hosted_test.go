package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
)

// artifact is a manifest of nothing that refers to subject, if there is one.
func artifact(t *testing.T, artifactType string, subject *v1.Descriptor) (string, v1.Descriptor) {
	t.Helper()
	body, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: v1.DescriptorEmptyJSON, Layers: []v1.Descriptor{v1.DescriptorEmptyJSON}, Subject: subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(body), v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body)), ArtifactType: artifactType}
}

// TestHostedReferrers pushes signatures by the API and, as a client would that
// does not know it, under the fallback tag; both ways of asking find them.
func TestHostedReferrers(t *testing.T) {
	p := startProxyTo(t, "http://127.0.0.1:1", link.Options{})
	const base = "/v2/local/app/"
	put := func(ref, mediaType, body string) {
		t.Helper()
		p.send(t, http.MethodPut, base+"manifests/"+ref, mediaType, body)
	}
	p.send(t, http.MethodPost, base+"blobs/uploads/?digest="+string(emptyJSON), "application/octet-stream", "{}")
	body, subject := artifact(t, "application/vnd.example.image", nil)
	put("1", v1.MediaTypeImageManifest, body)
	tag := base + "manifests/" + strings.Replace(subject.Digest.String(), ":", "-", 1)
	if a := p.get(t, tag); a.StatusCode != http.StatusNotFound {
		t.Errorf("the fallback tag of an image without referrers: %s", a.Status)
	}
	const n = 30
	for i := range n {
		body, d := artifact(t, fmt.Sprint("application/vnd.example.", i%3), &v1.Descriptor{
			MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size, Annotations: map[string]string{"n": fmt.Sprint(i)},
		})
		put(d.Digest.String(), v1.MediaTypeImageManifest, body)
	}
	list := base + "referrers/" + subject.Digest.String()
	p.checkListed(t, list, n, "")
	p.checkListed(t, list+"?artifactType=application/vnd.example.1", n/3, "")
	p.checkListed(t, tag, n, "") // for those who ask by the tag
	first := p.get(t, list+"?n=20")
	if got := len(decode[v1.Index](t, first).Manifests); got != 20 || !strings.Contains(first.Header.Get("Link"), `rel="next"`) {
		t.Errorf("first page of 20: %d entries, Link %q", got, first.Header.Get("Link"))
	}
	// A client that knows the tag alone adds its own, without a subject.
	body, old := artifact(t, "application/vnd.example.old", nil)
	put(old.Digest.String(), v1.MediaTypeImageManifest, body)
	index := decode[v1.Index](t, p.get(t, tag))
	index.Manifests = append(index.Manifests, old)
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	put(tag[strings.LastIndex(tag, "/")+1:], v1.MediaTypeImageIndex, string(raw))
	p.checkListed(t, list, n+1, "")
	p.checkListed(t, list+"?artifactType=application/vnd.example.old", 1, "")
	p.Kill()
	p.start(t)
	p.checkListed(t, list, n+1, "")
	p.checkListed(t, "/v2/local/other/referrers/"+subject.Digest.String(), 0, "")
}
