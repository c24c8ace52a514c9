package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/upstream"
)

// forgetful loses so many of its uploads when all has come.
type forgetful struct {
	Registry
	Pusher
	err    error
	pushes atomic.Int32
	most   int32
}

func (f *forgetful) PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	if f.pushes.Add(1) > f.most {
		return f.Pusher.PushBlob(ctx, repo, open, d)
	}
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		return err
	}
	return f.err
}

// TestUploadLostByTheUpstream: the upstream's words for its own upload are not taken
// for the client's, which is sent there once more.
func TestUploadLostByTheUpstream(t *testing.T) {
	for name, lost := range map[string]error{
		"unknown":  &upstream.StatusError{Upstream: "up", Op: "push", Status: http.StatusNotFound, Code: "BLOB_UPLOAD_UNKNOWN"},
		"no range": &upstream.StatusError{Upstream: "up", Op: "push", Status: http.StatusRequestedRangeNotSatisfiable},
	} {
		for _, most := range []int32{1, 2} {
			t.Run(name, func(t *testing.T) {
				host := newHost(t, Hosting{}, nil)
				front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
					o.Upstreams[0].PushThrough = true
					o.Upstreams[0].Registry = &forgetful{Registry: o.Upstreams[0].Registry, Pusher: o.Upstreams[0].Registry.(Pusher), err: lost, most: most}
				})
				body := random(5000, 1)
				loc := front.begin(t, "up/local/app")
				if a := front.send(t, http.MethodPatch, loc, bytes.NewReader(body)); a.status != http.StatusAccepted {
					t.Fatalf("chunk: %d %s", a.status, a.body)
				}
				end := loc + "?digest=" + digest.FromBytes(body).String()
				a := front.send(t, http.MethodPut, end, nil)
				if most > 1 { // it is told so, and nothing is lost here
					if a.status != http.StatusBadGateway || !strings.Contains(string(a.body), "the upstream lost the upload") {
						t.Errorf("end: %d %s, want 502", a.status, a.body)
					}
					a = front.send(t, http.MethodPut, end, nil)
				}
				if a.status != http.StatusCreated {
					t.Errorf("end: %d %s", a.status, a.body)
				}
			})
		}
	}
}
