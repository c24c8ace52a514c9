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

// TestFirstOfManyGivesUp: those that another upload counted for are judged by
// themselves when that is cancelled.
func TestFirstOfManyGivesUp(t *testing.T) {
	body, other := random(600, 1), random(600, 2)
	s := newHost(t, Hosting{Quota: 1000}, nil)
	wrong := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/", nil).header.Get("Location")
	if a := s.send(t, http.MethodPatch, wrong, bytes.NewReader(body[:500])); a.status != http.StatusAccepted {
		t.Fatalf("send: %d", a.status)
	}
	a := s.send(t, http.MethodPut, wrong+"?digest="+digest.FromBytes(body).String(), nil)
	wantCode(t, "other bytes", a, http.StatusBadRequest, "DIGEST_INVALID")
	s.pushBlob(t, "local/app", body)
	full := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(other).String(), bytes.NewReader(other))
	wantCode(t, "another", full, http.StatusForbidden, "DENIED")
}
