package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/upstream"
)

// failing answers pushes by err while there is one: before it has taken a byte, or
// once it has taken all.
type failing struct {
	Registry
	Pusher
	err  atomic.Pointer[error]
	late bool
}

func (f *failing) PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	err := f.err.Load()
	if err == nil {
		return f.Pusher.PushBlob(ctx, repo, open, d)
	}
	if f.late {
		rc, oerr := open()
		if oerr != nil {
			return oerr
		}
		defer rc.Close()
		if _, cerr := io.Copy(io.Discard, rc); cerr != nil {
			return cerr
		}
	}
	return *err
}

// newFailing is a proxy of a host to which pushes fail by err.
func newFailing(t *testing.T, late bool, err error, configure func(*Options)) (*server, *failing) {
	t.Helper()
	host := newHost(t, Hosting{}, nil)
	f := &failing{late: late}
	f.err.Store(&err)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		f.Registry, f.Pusher = o.Upstreams[0].Registry, o.Upstreams[0].Registry.(Pusher)
		o.Upstreams[0].Registry = f
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
		configure(o)
	})
	return front, f
}

func status(code int) error {
	return &upstream.StatusError{Upstream: "up", Op: "push", Status: code}
}

// TestFailedPushesAreNotTooMany: uploads that the upstream did not begin are over, or
// make way for the next of their client.
func TestFailedPushesAreNotTooMany(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		over bool // the upload is
	}{
		"not there":   {status(http.StatusNotFound), true},
		"not allowed": {status(http.StatusMethodNotAllowed), true},
		"denied":      {status(http.StatusForbidden), true},
		"throttled":   {status(http.StatusTooManyRequests), false},
		"broken":      {status(http.StatusInternalServerError), false},
		"away":        {&upstream.UnreachableError{Upstream: "up", Err: io.ErrUnexpectedEOF}, false},
	} {
		t.Run(name, func(t *testing.T) {
			front, f := newFailing(t, false, c.err, func(o *Options) { o.MaxUploads = 2 })
			var loc string
			for range 4 {
				loc = front.begin(t, "up/local/app")
				if a := front.send(t, http.MethodPatch, loc, bytes.NewReader(random(100, 1))); a.status < 400 {
					t.Fatalf("chunk: %d %s", a.status, a.body)
				}
			}
			front.pushBlob(t, "local/app", random(100, 2)) // the client's pushes elsewhere are none of it
			f.err.Store(nil)
			want := http.StatusAccepted
			if c.over {
				want = http.StatusNotFound
			}
			if a := front.send(t, http.MethodPatch, loc, bytes.NewReader(random(100, 1))); a.status != want {
				t.Errorf("on with the last: %d %s, want %d", a.status, a.body, want)
			}
		})
	}
}

// TestFailedPushesMakeWay: what came of an upload that the upstream failed to take can
// be gone on with, and is in nobody's way.
func TestFailedPushesMakeWay(t *testing.T) {
	front, f := newFailing(t, true, status(http.StatusBadGateway), func(o *Options) { o.PassingBytes = 1000 })
	left := map[string]string{}
	for i, repo := range []string{"up/local/a", "up/local/b"} {
		body := random(400, byte(i))
		loc := front.begin(t, repo)
		if a := front.send(t, http.MethodPatch, loc, bytes.NewReader(body)); a.status != http.StatusAccepted {
			t.Fatalf("chunk: %d %s", a.status, a.body)
		}
		left[repo] = loc + "?digest=" + digest.FromBytes(body).String()
		if a := front.send(t, http.MethodPut, left[repo], nil); a.status < 500 {
			t.Fatalf("end: %d %s, want the upstream's failure", a.status, a.body)
		}
	}
	f.err.Store(nil)
	if a := front.pushOf(t, "up/local/c", random(500, 3)); a.status != http.StatusCreated {
		t.Errorf("another: %d %s", a.status, a.body)
	}
	if a := front.send(t, http.MethodPut, left["up/local/a"], nil); a.status != http.StatusCreated {
		t.Errorf("the first, for which there was room: %d %s", a.status, a.body)
	}
	wantCode(t, "the last", front.send(t, http.MethodPut, left["up/local/b"], nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}
