package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// denying refuses every push when it is let to, without a look at its bytes.
type denying struct {
	Registry
	Pusher
	asked, let chan struct{}
}

func (d *denying) PushBlob(context.Context, string, func() (io.ReadCloser, error), func() digest.Digest) error {
	d.asked <- struct{}{}
	<-d.let
	return &upstream.StatusError{Upstream: "up", Op: "push", Status: http.StatusForbidden, Code: "DENIED"}
}

// unread notes whether a body was looked at.
type unread struct {
	io.Reader
	looked atomic.Bool
}

func (u *unread) Read(p []byte) (int, error) {
	u.looked.Store(true)
	return u.Reader.Read(p)
}

// TestDeniedPushTakesNothing: what the upstream denies is not read, takes no room,
// and has nothing evicted.
func TestDeniedPushTakesNothing(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	var up *denying
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		up = &denying{o.Upstreams[0].Registry, o.Upstreams[0].Registry.(Pusher), make(chan struct{}, 9), make(chan struct{})}
		o.Upstreams[0].Registry = up
	})
	close(up.let)
	blob := random(100<<10, 1) // the server reads that much after a refusal
	for _, whole := range []bool{false, true} {
		method, at := http.MethodPost, "/v2/up/local/app/blobs/uploads/?digest="+digest.FromBytes(blob).String()
		if !whole {
			method, at = http.MethodPatch, front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
		}
		a := front.send(t, method, at, bytes.NewReader(blob))
		wantCode(t, method, a, http.StatusForbidden, "DENIED")
		<-up.asked
		if !whole {
			wantCode(t, "again", front.send(t, method, at, bytes.NewReader(blob)), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		}
		if n := front.store.Usage().Total(); n != 0 {
			t.Errorf("%s: %d bytes are kept", method, n)
		}
	}
	var open int
	if err := front.store.View(t.Context(), func(tx storage.Tx) error {
		return tx.Uploads(func(storage.UploadRow) error { open++; return nil })
	}); err != nil || open != 0 {
		t.Errorf("%d uploads are left, %v", open, err)
	}
}

// TestNothingIsReadBeforeTheUpstreamsWord has the upstream take its time.
func TestNothingIsReadBeforeTheUpstreamsWord(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	var up *denying
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		up = &denying{o.Upstreams[0].Registry, o.Upstreams[0].Registry.(Pusher), make(chan struct{}, 9), make(chan struct{})}
		o.Upstreams[0].Registry = up
	})
	loc := front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, front.URL+loc, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	body := &unread{Reader: bytes.NewReader(random(300<<10, 1))}
	req.Body, req.ContentLength = io.NopCloser(body), 300<<10
	req.Header.Set("Expect", "100-continue") // asked for when the body is read
	client := &http.Transport{ExpectContinueTimeout: time.Hour}
	defer client.CloseIdleConnections()
	done := make(chan int, 1)
	go func() {
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Error(err)
			done <- 0
			return
		}
		defer resp.Body.Close()
		done <- resp.StatusCode
	}()
	<-up.asked
	if n := front.store.Usage().Total(); n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
	close(up.let)
	if got := <-done; got != http.StatusForbidden || body.looked.Load() {
		t.Errorf("status %d; that the body was sent: %t", got, body.looked.Load())
	}
}

// away has no answer to pushes.
type away struct {
	Registry
	Pusher
}

func (away) PushBlob(context.Context, string, func() (io.ReadCloser, error), func() digest.Digest) error {
	return &upstream.UnreachableError{Upstream: "up", Err: io.ErrUnexpectedEOF}
}

// TestUnansweredPushTakesNothing: nothing is taken for an upstream that says nothing.
func TestUnansweredPushTakesNothing(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		o.Upstreams[0].Registry = away{o.Upstreams[0].Registry, o.Upstreams[0].Registry.(Pusher)}
	})
	loc := front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
	for range 2 { // the upload is there for when the upstream is
		a := front.send(t, http.MethodPatch, loc, bytes.NewReader(random(100<<10, 1)))
		wantCode(t, "chunk", a, http.StatusServiceUnavailable, "UNAVAILABLE")
		if n := front.store.Usage().Total(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
	}
}
