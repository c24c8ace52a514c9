package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestPrefetchFromOutside: an index of somebody else's that has a prefetch
// artifact is listed as long as there is none of ours, comes through byte for
// byte, and is here when the upstream is not.
func TestPrefetchFromOutside(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/app:1.0", 1, "amd64")
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	subject := im.Manifests[0]
	spans := []byte(`{"version":"1.0","prefetch_spans":[{"start_span":1,"end_span":2}]}`)
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), oci.MediaTypeSOCIIndexV1),
		mutate.Addendum{Layer: static.NewLayer([]byte("a zTOC of theirs"), "application/octet-stream")},
		mutate.Addendum{Layer: static.NewLayer(spans, oci.MediaTypeSOCIPrefetch)})
	if err != nil {
		t.Fatal(err)
	}
	theirs := mutate.Subject(img, ggcr.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}).(ggcr.Image)
	d, err := theirs.Digest()
	if err == nil {
		err = remote.Write(s.ref(t, "acme/app@"+d.String()), theirs)
	}
	if err != nil {
		t.Fatal(err)
	}
	text := string(readFile(t, s.config))
	text = text[:strings.Index(text, "index:")] + "index: {rules: []}\nreferrers: {wait: 0s}\n"
	text = strings.Replace(text, "{up: {", "{up: {tag_ttl: 1h, ", 1)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := startServer(t, "--config", s.config)
	get := func(path string) []byte {
		t.Helper()
		resp, err := http.Get("http://" + srv.addr + "/v2/up/acme/app/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %v: %s", path, resp.Status, err, body)
		}
		return body
	}
	look := func() {
		t.Helper()
		get("manifests/" + subject.Digest.String())
		var list v1.Index
		if err := json.Unmarshal(get("referrers/"+subject.Digest.String()), &list); err != nil || len(list.Manifests) != 1 || list.Manifests[0].Digest.String() != d.String() {
			t.Fatalf("listed: %+v, %v", list, err)
		}
		raw, err := theirs.RawManifest()
		if err != nil || !bytes.Equal(get("manifests/"+d.String()), raw) {
			t.Error("the index is another")
		}
		if got := get("blobs/" + digest.FromBytes(spans).String()); !bytes.Equal(got, spans) {
			t.Errorf("the artifact came as %q", got)
		}
	}
	look()
	s.CloseClientConnections()
	s.Close()
	look()
}
