package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// TestBrokenMonolithicPush breaks off blobs that are sent in one request: nothing
// of them stays, since no client knows a name to go on with.
func TestBrokenMonolithicPush(t *testing.T) {
	s := newHost(t, Hosting{Quota: 5000}, nil)
	body := random(4000, 1)
	for range 5 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /v2/local/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n%s", digest.FromBytes(body), body[:3900])
		_ = c.(*net.TCPConn).CloseWrite()
		if answer, err := io.ReadAll(c); err != nil || !strings.Contains(string(answer), "BLOB_UPLOAD_INVALID") {
			t.Errorf("%s, %v, want BLOB_UPLOAD_INVALID", answer, err)
		}
		_ = c.Close()
	}
	ids, err := s.store.Uploads(t.Context(), func(storage.UploadRow) bool { return true })
	if len(ids) > 0 || err != nil {
		t.Errorf("%d uploads stay, %v", len(ids), err)
	}
	if n := s.store.Usage().Partial; n > 0 {
		t.Errorf("%d bytes of partials stay", n)
	}
	s.pushBlob(t, "local/app", body)
	if a := s.do(t, http.MethodGet, "/v2/local/app/blobs/"+digest.FromBytes(body).String()); a.status != http.StatusOK {
		t.Errorf("the blob, sent whole: %d", a.status)
	}
}
