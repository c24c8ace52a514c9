package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestCrowdUnderQuota has 16 clients push the same layer at once where there is
// room for one: those that say what they push count once.
func TestCrowdUnderQuota(t *testing.T) {
	const clients = 16
	body := random(1<<20, 1)
	d := digest.FromBytes(body)
	s := newHost(t, Hosting{Quota: int64(len(body)) + 100}, nil)
	var begun, crowd sync.WaitGroup
	begun.Add(clients)
	for range clients {
		crowd.Go(func() {
			loc := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
			r, w := io.Pipe()
			crowd.Go(func() {
				_, err := w.Write(body[:700<<10])
				begun.Done()
				begun.Wait() // by now more has come than there is room for
				if err == nil {
					_, err = w.Write(body[700<<10:])
				}
				_ = w.CloseWithError(err)
			})
			if a := s.send(t, http.MethodPut, loc+"?digest="+d.String(), r); a.status != http.StatusCreated {
				t.Errorf("push: %d %s", a.status, a.body)
			}
			_ = r.Close()
		})
	}
	crowd.Wait()
	if got := s.store.OpenCount("local").Bytes(); got != 0 {
		t.Errorf("%d bytes are open in the end", got)
	}
	other := random(200, 2)
	full := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(other).String(), bytes.NewReader(other))
	wantCode(t, "another", full, http.StatusForbidden, "DENIED")
}

// TestQuotaOfDifferentLayers has 16 clients push different layers at once that fit
// together: none counts twice while it is being filed.
func TestQuotaOfDifferentLayers(t *testing.T) {
	const clients, size = 16, 100 << 10
	s := newHost(t, Hosting{Quota: clients*size + 100}, nil)
	var crowd sync.WaitGroup
	for i := range clients {
		crowd.Go(func() {
			body := random(size, byte(i))
			path := "/v2/local/app/blobs/uploads/?digest=" + digest.FromBytes(body).String()
			if a := s.send(t, http.MethodPost, path, bytes.NewReader(body)); a.status != http.StatusCreated {
				t.Errorf("push: %d %s", a.status, a.body)
			}
		})
	}
	crowd.Wait()
	if got := s.store.OpenCount("local").Bytes(); got != 0 {
		t.Errorf("%d bytes are open in the end", got)
	}
}

// TestBrokenCrowdTakesRoom: what is kept of uploads that say they are the same,
// and that break off, counts each by itself.
func TestBrokenCrowdTakesRoom(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	path := "?digest=" + digest.FromString("nobody has it").String()
	var locs []string
	for range 3 {
		locs = append(locs, s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location"))
	}
	var crowd sync.WaitGroup
	cut := make(chan struct{})
	for i, loc := range locs {
		crowd.Go(func() {
			r, w := io.Pipe()
			crowd.Go(func() {
				_, _ = w.Write(random(600, byte(i)))
				<-cut
				_ = w.CloseWithError(io.ErrUnexpectedEOF) // so is the connection
			})
			_ = s.send(t, http.MethodPut, loc+path, r)
		})
	}
	waitFor(t, func() bool { return s.store.Usage().Open.Bytes == 1800 })
	close(cut)
	crowd.Wait()
	kept, open := s.keptOf(t, locs)
	for begun := time.Now(); kept > 1 || open != int64(kept)*600; kept, open = s.keptOf(t, locs) {
		if time.Since(begun) > time.Minute { // a client hears of it before the server has done with it
			t.Fatalf("%d uploads are kept, and %d bytes count", kept, open)
		}
	}
}

// keptOf gives how many of the uploads at locs have their 600 bytes, and how many
// bytes count for all.
func (s *server) keptOf(t *testing.T, locs []string) (kept int, open int64) {
	t.Helper()
	for _, loc := range locs {
		a := s.do(t, http.MethodGet, loc)
		switch got := a.header.Get("Range"); {
		case a.status == http.StatusNoContent && got == "0-599":
			kept++
		case a.status == http.StatusNoContent && got != "0-0": // it may go on from its beginning
			t.Errorf("an upload is kept to %s", got)
		}
	}
	return kept, s.store.OpenCount("local").Bytes()
}

// upload begins one, and sends the beginning of a body of size bytes that is to
// become d. Whoever closes the connection ends it early.
func (s *server) upload(t *testing.T, d digest.Digest, begin []byte, size int) (loc string, conn net.Conn) {
	t.Helper()
	loc = s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "PUT %s?digest=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", loc, d, size, begin); err != nil {
		t.Fatal(err)
	}
	return loc, conn
}

// await waits until the open uploads' bytes are n.
func (s *server) await(t *testing.T, n int64) {
	t.Helper()
	waitFor(t, func() bool { return s.store.OpenCount("local").Bytes() == n })
}

// TestPushedWhileOpen: what has become a blob does not count once more for an
// upload of the same that is under way, and what that sends beyond it does.
func TestPushedWhileOpen(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	body := random(500, 1)
	s.upload(t, digest.FromBytes(body), body[:400], 500)
	s.await(t, 400)
	s.pushBlob(t, "local/app", body)
	s.pushBlob(t, "local/app", random(400, 2))
	more := random(101, 3)
	a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(more).String(), bytes.NewReader(more))
	wantCode(t, "more than there is room for", a, http.StatusForbidden, "DENIED")
	other := io.MultiReader(bytes.NewReader(random(700, 4)))
	a = s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(body).String(), other)
	wantCode(t, "other bytes as what is there", a, http.StatusForbidden, "DENIED")
}

// TestFirstOfManyGivesUp: those that counted together as the largest of them are
// judged by themselves when that is cut off.
func TestFirstOfManyGivesUp(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	s.pushBlob(t, "local/app", random(100, 1))
	d := digest.FromBytes(random(700, 2))
	first, one := s.upload(t, d, random(600, 2), 700)
	s.await(t, 600)
	second, two := s.upload(t, d, random(500, 2), 700)
	waitFor(t, func() bool { return s.store.Usage().Open.Bytes == 1100 })
	if got := s.store.OpenCount("local").Bytes(); got != 600 {
		t.Errorf("%d bytes are counted, want the larger's 600", got)
	}
	_ = two.Close() // there is no room for both
	waitFor(t, func() bool { return s.store.Usage().Open.Uploads == 1 })
	wantCode(t, "the second", s.do(t, http.MethodGet, second), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	_ = one.Close()
	if a := s.do(t, http.MethodGet, first); a.status != http.StatusNoContent {
		t.Errorf("the first can't go on: %d %s", a.status, a.body)
	}
	s.await(t, 600)
	third := random(301, 3)
	a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(third).String(), bytes.NewReader(third))
	wantCode(t, "another", a, http.StatusTooManyRequests, "TOOMANYREQUESTS")
}

// TestInventedDigest: uploads that are said to become the same, and are cut off,
// take no more room than there is.
func TestInventedDigest(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	s.pushBlob(t, "local/app", random(600, 1))
	d := digest.FromString("none of these")
	a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+d.String(), bytes.NewReader(random(401, 2)))
	wantCode(t, "more than there is room for", a, http.StatusForbidden, "DENIED")
	for range 4 {
		loc, conn := s.upload(t, d, random(300, 2), 400)
		waitFor(t, func() bool { return s.store.Usage().Open.Bytes >= 300 })
		_ = conn.Close()
		s.do(t, http.MethodGet, loc) // once that request has ended
	}
	if got := s.store.Usage().Open.Bytes; got > 400 {
		t.Errorf("%d bytes were kept, more than there is room for", got)
	}
}
