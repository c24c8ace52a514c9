package proxy

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestLostUpload takes an upload's file away: the client is told to begin anew.
func TestLostUpload(t *testing.T) {
	dir := t.TempDir()
	host := func(o *Options) { o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true}) }
	s := newServerAt(t, dir, newRegistry(t), host, nil)
	body := random(3000, 1)
	loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	if a := s.send(t, http.MethodPatch, loc, bytes.NewReader(body)); a.status != http.StatusAccepted {
		t.Fatalf("chunk: %d %s", a.status, a.body)
	}
	if err := os.Remove(filepath.Join(dir, "partial", "upload-"+filepath.Base(loc))); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "PUT", s.send(t, http.MethodPut, loc+"?digest="+digest.FromBytes(body).String(), nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	wantCode(t, "PATCH", s.send(t, http.MethodPatch, loc, bytes.NewReader(body)), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}
