package proxy

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"

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
	if got := s.store.OpenBytes("local"); got != 0 {
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
	if got := s.store.OpenBytes("local"); got != 0 {
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
	var begun, crowd sync.WaitGroup
	begun.Add(len(locs))
	for i, loc := range locs {
		crowd.Go(func() {
			r, w := io.Pipe()
			crowd.Go(func() {
				_, _ = w.Write(random(600, byte(i)))
				begun.Done()
				begun.Wait()
				_ = w.CloseWithError(io.ErrUnexpectedEOF) // the connection is cut
			})
			_ = s.send(t, http.MethodPut, loc+path, r)
		})
	}
	crowd.Wait()
	kept := 0
	for _, loc := range locs {
		if a := s.do(t, http.MethodGet, loc); a.status == http.StatusNoContent {
			kept++
		}
	}
	if open := s.store.OpenBytes("local"); kept > 1 || open > 1000 || open != int64(kept)*600 {
		t.Errorf("%d uploads are kept, and %d bytes count", kept, open)
	}
}
