package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/upstream"
)

// TestUnfinishedUploadsToAnUpstream take no more room than they may; who is refused
// goes on where it was, once there is some.
func TestUnfinishedUploadsToAnUpstream(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough, o.PassingBytes = true, 1000
	})
	left, loc := front.begin(t, "up/local/a"), front.begin(t, "up/local/b")
	body := random(700, 1)
	if a := front.chunk(t, http.MethodPatch, left, random(600, 2), 0, 600, true); a.status != http.StatusAccepted {
		t.Fatalf("one: %d %s", a.status, a.body)
	}
	if a := front.chunk(t, http.MethodPatch, loc, body, 0, 300, true); a.status != http.StatusAccepted {
		t.Fatalf("another: %d %s", a.status, a.body)
	}
	for _, announced := range []bool{true, false} {
		a := front.chunk(t, http.MethodPatch, loc, body, 300, 700, announced)
		wantCode(t, "more than both may take", a, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "uploads.upstream_bytes") {
			t.Errorf("%s, Retry-After %q", a.body, a.header.Get("Retry-After"))
		}
		if a := front.do(t, http.MethodGet, loc); a.header.Get("Range") != "0-299" {
			t.Errorf("the upload: %d %s, Range %s, want 0-299", a.status, a.body, a.header.Get("Range"))
		}
	}
	if got := front.store.Usage().Open.Bytes; got != 900 {
		t.Errorf("%d bytes are kept of both, want 900", got)
	}
	if a := front.do(t, http.MethodDelete, left); a.status != http.StatusNoContent {
		t.Fatalf("cancel: %d", a.status)
	}
	d := digest.FromBytes(body)
	if a := front.chunk(t, http.MethodPut, loc+"?digest="+d.String(), body, 300, 700, true); a.status != http.StatusCreated {
		t.Fatalf("once there is room: %d %s", a.status, a.body)
	}
	if a := host.do(t, http.MethodGet, "/v2/local/b/blobs/"+d.String()); !bytes.Equal(a.body, body) {
		t.Errorf("the upstream has others: %d", a.status)
	}
	if a := front.pushOf(t, "up/local/b", random(900, 3)); a.status != http.StatusCreated { // what is whole does not count
		t.Errorf("the next: %d %s", a.status, a.body)
	}
	a := front.pushOf(t, "up/local/b", random(1001, 4))
	wantCode(t, "a larger blob", a, http.StatusForbidden, "DENIED")
	if !strings.Contains(string(a.body), "uploads.upstream_bytes") {
		t.Errorf("%s", a.body)
	}
	if got := front.store.Usage().Open; got.Uploads != 0 {
		t.Errorf("%+v are left", got)
	}
}

// pushOf pushes a blob in one request.
func (s *server) pushOf(t *testing.T, repo string, body []byte) answer {
	t.Helper()
	return s.send(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromBytes(body).String(), bytes.NewReader(body))
}

// halting begins a push, and refuses it when some of it has come.
type halting struct {
	Registry
	Pusher
}

func (halting) PushBlob(_ context.Context, _ string, open func() (io.ReadCloser, error), _ func() digest.Digest) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	if _, err := io.CopyN(io.Discard, rc, 100<<10); err != nil {
		return err
	}
	return &upstream.StatusError{Upstream: "up", Op: "push", Status: http.StatusForbidden, Code: "DENIED"}
}

// endless goes on for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestRefusedOnTheWay: what the upstream refuses while it comes is not taken to its
// end, and nothing of it stays.
func TestRefusedOnTheWay(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		o.Upstreams[0].Registry = halting{o.Upstreams[0].Registry, o.Upstreams[0].Registry.(Pusher)}
	})
	loc := front.begin(t, "up/local/app")
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPatch, loc, endless{})
	r.ContentLength = -1
	front.p.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "the upstream denies it") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := front.store.Usage(); got.Open.Uploads != 0 || got.Total() != 0 {
		t.Errorf("left: %+v", got)
	}
	wantCode(t, "again", front.send(t, http.MethodPatch, loc, strings.NewReader("x")), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

// TestPushToOffline: what never gets there is not begun.
func TestPushToOffline(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough, o.Upstreams[0].Offline = true, true
	})
	for method, path := range map[string]string{
		http.MethodPost: "blobs/uploads/", http.MethodPut: "manifests/v1", http.MethodDelete: "manifests/" + digest.FromString("x").String(),
	} {
		a := front.send(t, method, "/v2/up/local/app/"+path, nil)
		wantCode(t, method, a, http.StatusMethodNotAllowed, "UNSUPPORTED")
		if !strings.Contains(string(a.body), "offline by configuration") {
			t.Errorf("%s: %s", method, a.body)
		}
	}
}
