package proxy

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestQuietClient: a client whose connection died in the middle of a chunk comes
// back by another one, and goes on behind what came; one that is sending is not
// interrupted by that.
func TestQuietClient(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	body := random(1000, 1)
	loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	dead, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	if _, err := fmt.Fprintf(dead, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n%s", loc, body[:400]); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.store.OpenCount("local").Bytes() >= 400 }) // it has come
	a := s.send(t, http.MethodGet, loc, nil)
	if a.status != http.StatusNoContent || a.header.Get("Range") != "0-399" {
		t.Fatalf("status: %d %s, Range %q", a.status, a.body, a.header.Get("Range"))
	}
	d := digest.FromBytes(body)
	if a := s.send(t, http.MethodPut, loc+"?digest="+d.String(), bytes.NewReader(body[400:]), "Content-Range", "400-999"); a.status != http.StatusCreated {
		t.Errorf("the rest: %d %s", a.status, a.body)
	}
}
