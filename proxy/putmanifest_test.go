package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestManifestChecks pushes manifests that must not be taken.
func TestManifestChecks(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	layer := random(100, 1)
	d := s.pushBlob(t, "local/app", layer)
	s.pushBlob(t, "local/app", oci.EmptyJSON)
	s.pushBlob(t, "local/other", random(50, 2))
	elsewhere := digest.FromBytes(random(50, 2))
	good := image(oci.EmptyDigest, d, len(layer))
	index := func(d digest.Digest, mediaType string, size int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, v1.MediaTypeImageIndex, mediaType, d, size)
	}
	if a := s.putManifest(t, "local/app", "good", good); a.status != http.StatusCreated {
		t.Fatalf("a good one: %d %s", a.status, a.body)
	}
	for _, c := range []struct {
		name, ref, body string
		status          int
		code            string
	}{
		{"a layer that is nowhere", "v1", image(oci.EmptyDigest, digest.FromString("none"), 4), 400, "MANIFEST_BLOB_UNKNOWN"},
		{"a layer of another repository", "v1", image(oci.EmptyDigest, elsewhere, 50), 400, "MANIFEST_BLOB_UNKNOWN"},
		{"another size", "v1", image(oci.EmptyDigest, d, 99), 400, "MANIFEST_INVALID"},
		{"a config that is nowhere", "v1", image(digest.FromString("none"), d, len(layer)), 400, "MANIFEST_BLOB_UNKNOWN"},
		{"no JSON", "v1", "{", 400, "MANIFEST_INVALID"},
		{"no config", "v1", `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageManifest + `","layers":[]}`, 400, "MANIFEST_INVALID"},
		{"schema 1", "v1", `{"schemaVersion":1,"name":"x"}`, 400, "MANIFEST_INVALID"},
		{"another digest", digest.FromString("x").String(), good, 400, "DIGEST_INVALID"},
		{"a bad digest", "sha256:x", good, 400, "DIGEST_INVALID"},
		{"a bad tag", "-x", good, 400, "TAG_INVALID"},
		{"too large", "v1", good + strings.Repeat(" ", oci.MaxManifestBytes), 413, "SIZE_INVALID"},
		{"an index of a blob", "v1", index(d, v1.MediaTypeImageManifest, len(layer)), 400, "MANIFEST_"},
		{"an index of another type", "v1", index(digest.FromString(good), v1.MediaTypeImageIndex, len(good)), 400, "MANIFEST_INVALID"},
	} {
		a := s.send(t, http.MethodPut, "/v2/local/app/manifests/"+c.ref, strings.NewReader(c.body))
		if a.status != c.status || !bytes.Contains(a.body, []byte(`"`+strings.TrimSuffix(c.code, "_"))) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.code)
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/tags/list"); !bytes.Contains(a.body, []byte(`["good"]`)) {
		t.Errorf("tags: %s", a.body)
	}
	foreign := strings.Replace(image(oci.EmptyDigest, digest.FromString("none"), 4), v1.MediaTypeImageLayerGzip, oci.MediaTypeDockerForeignGzip, 1)
	if a := s.putManifest(t, "local/app", "foreign", foreign); a.status != http.StatusCreated || !strings.HasPrefix(a.header.Get("Warning"), "299 - ") {
		t.Errorf("a layer that is not distributed: %d %s %v", a.status, a.body, a.header)
	}
	if a := s.send(t, http.MethodPut, "/v2/local/app/manifests/list", strings.NewReader(index(digest.FromString(good), v1.MediaTypeImageManifest, len(good)))); a.status != http.StatusCreated {
		t.Errorf("an index: %d %s", a.status, a.body)
	}
}

func TestSparse(t *testing.T) {
	s := newHost(t, Hosting{Sparse: true}, nil)
	s.pushBlob(t, "local/app", oci.EmptyJSON)
	if a := s.putManifest(t, "local/app", "v1", image(oci.EmptyDigest, digest.FromString("none"), 4)); a.status != http.StatusCreated {
		t.Errorf("push: %d %s", a.status, a.body)
	}
	if a := s.putManifest(t, "local/app", "v1", image(oci.EmptyDigest, oci.EmptyDigest, 4)); a.status != http.StatusBadRequest {
		t.Errorf("what is here has another size: %d %s", a.status, a.body)
	}
}

func TestSubjects(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	s.pushBlob(t, "local/app", oci.EmptyJSON)
	subject := digest.FromString("comes later")
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":9},"annotations":{"a":"b"}}`,
		v1.MediaTypeImageManifest, oci.EmptyDigest, v1.MediaTypeImageManifest, subject)
	d := digest.FromString(body)
	a := s.putManifest(t, "local/app", d.String(), body)
	if a.status != http.StatusCreated || a.header.Get("OCI-Subject") != subject.String() {
		t.Fatalf("push: %d %s %v", a.status, a.body, a.header)
	}
	rows := func() (rows []storage.ReferrerRow) {
		t.Helper()
		err := s.store.View(t.Context(), func(tx storage.Tx) error {
			return tx.Referrers(subject, func(r storage.ReferrerRow) error { rows = append(rows, r); return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	got := rows()
	if len(got) != 1 || got[0].Repo.String() != "local/app" || got[0].Descriptor.ArtifactType != "application/x" ||
		got[0].Descriptor.Annotations["a"] != "b" || got[0].Descriptor.Digest != d {
		t.Errorf("referrers: %+v", got)
	}
	if a := s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+d.String()); a.status != http.StatusAccepted {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if got := rows(); len(got) > 0 {
		t.Errorf("referrers after the deletion: %+v", got)
	}
}

func TestTagParams(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	m := s.pushImage(t, "local/app", "v1", random(10, 1))
	body := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1").body
	a := s.putManifest(t, "local/app", m.String()+"?tag=b&tag=a", string(body))
	if a.status != http.StatusCreated || a.header.Get("OCI-Tag") != "b, a" {
		t.Errorf("push with tags: %d %s %v", a.status, a.body, a.header)
	}
	wantCode(t, "a bad tag", s.putManifest(t, "local/app", m.String()+"?tag=a:b", string(body)), http.StatusBadRequest, "TAG_INVALID")
	if a := s.do(t, http.MethodGet, "/v2/local/app/tags/list"); !bytes.Contains(a.body, []byte(`["a","b","v1"]`)) {
		t.Errorf("tags: %s", a.body)
	}
}
