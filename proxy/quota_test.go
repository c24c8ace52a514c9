package proxy

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestQuota(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	s.pushBlob(t, "local/a", random(600, 1))
	s.pushBlob(t, "local/b", random(600, 1)) // counted once
	over := random(600, 2)
	path := "/v2/local/a/blobs/uploads/?digest=" + digest.FromBytes(over).String()
	full := s.send(t, http.MethodPost, path, bytes.NewReader(over))
	wantCode(t, "too much", full, http.StatusForbidden, "DENIED")
	if !bytes.Contains(full.body, []byte("quota of local")) || !bytes.Contains(full.body, []byte("hosted.local.quota")) {
		t.Errorf("the refusal does not say what to do: %s", full.body)
	}
	wantCode(t, "too much, streamed", s.send(t, http.MethodPost, path, io.MultiReader(bytes.NewReader(over))), http.StatusForbidden, "DENIED")
	s.pushBlob(t, "other/a", over)
	wantCode(t, "mounted", s.send(t, http.MethodPost, "/v2/local/a/blobs/uploads/?from=other/a&mount="+digest.FromBytes(over).String(), nil), http.StatusForbidden, "DENIED")
	for _, repo := range []string{"local/a", "local/b"} {
		if a := s.do(t, http.MethodDelete, "/v2/"+repo+"/blobs/"+digest.FromBytes(random(600, 1)).String()); a.status != http.StatusAccepted {
			t.Fatalf("delete: %d", a.status)
		}
	}
	s.pushBlob(t, "local/a", over)
}

// TestQuotaAfterDeletion: what a client deletes makes room at once, and not what
// another image needs; and what is named again counts again.
func TestQuotaAfterDeletion(t *testing.T) {
	s := newHost(t, Hosting{Quota: 3000}, nil)
	base, other := random(1000, 1), random(1000, 2)
	s.pushImage(t, "local/app", "base", base)
	m := s.pushImage(t, "local/app", "v1", other)
	body := s.do(t, http.MethodGet, "/v2/local/app/manifests/v1").body
	third := random(1000, 3)
	path := "/v2/local/app/blobs/uploads/?digest=" + digest.FromBytes(third).String()
	full := s.send(t, http.MethodPost, path, bytes.NewReader(third))
	wantCode(t, "a third", full, http.StatusForbidden, "DENIED")
	if !bytes.Contains(full.body, []byte("delete images there, by digest, or raise hosted.local.quota")) {
		t.Errorf("the refusal does not say what to do: %s", full.body)
	}
	if a := s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+m.String()); a.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+digest.FromBytes(other).String()); a.status != http.StatusOK {
		t.Errorf("its layer can't be read for a while: %d", a.status)
	}
	s.pushImage(t, "local/app", "v3", third)
	wantCode(t, "the second again", s.putManifest(t, "local/app", "v1", string(body)), http.StatusForbidden, "DENIED")
	if a := s.do(t, http.MethodGet, "/v2/local/app/manifests/base"); a.status != http.StatusOK {
		t.Errorf("the first: %d", a.status)
	}
	v3 := s.do(t, http.MethodHead, "/v2/local/app/manifests/v3").header.Get("Docker-Content-Digest")
	s.do(t, http.MethodDelete, "/v2/local/app/manifests/"+v3)
	if a := s.putManifest(t, "local/app", "v1", string(body)); a.status != http.StatusCreated {
		t.Errorf("the second again, once there is room: %d %s", a.status, a.body)
	}
	wantCode(t, "a third, beside it", s.send(t, http.MethodPost, path, bytes.NewReader(third)), http.StatusForbidden, "DENIED")
}
