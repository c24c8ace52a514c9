package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// newFront is a proxy of a host, to which pushes go through.
func newFront(t *testing.T, h Hosting, allow bool) (front, host *server) {
	t.Helper()
	host = newHost(t, h, nil)
	front = newServer(t, &registry{Server: host.Server}, func(o *Options) { o.Upstreams[0].PushThrough = allow })
	return front, host
}

// TestPushThrough pushes an image in both ways: it is at the upstream, and here.
func TestPushThrough(t *testing.T) {
	front, host := newFront(t, Hosting{}, true)
	layer := random(700<<10, 1)
	m := front.pushImage(t, "up/local/app", "v1", layer)
	d := digest.FromBytes(layer)
	for name, s := range map[string]struct {
		*server
		prefix string
	}{"upstream": {host, "/v2/local/app"}, "front": {front, "/v2/up/local/app"}} {
		if a := s.do(t, http.MethodGet, s.prefix+"/manifests/v1"); digest.FromBytes(a.body) != m {
			t.Errorf("%s: manifest: %d %s", name, a.status, a.body)
		}
		if a := s.do(t, http.MethodGet, s.prefix+"/blobs/"+d.String()); !bytes.Equal(a.body, layer) || a.header.Get("X-Cache") != "hit" {
			t.Errorf("%s: layer: %d, %d bytes, X-Cache %q", name, a.status, len(a.body), a.header.Get("X-Cache"))
		}
	}
	if row, err := front.store.Stat(t.Context(), d); err != nil || row.Kind != storage.KindBlob {
		t.Errorf("kept as %+v, %v: what can be had again may be evicted", row, err)
	}
	// In chunks, one of them streamed.
	other := random(500<<10, 2)
	loc := front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
	for _, part := range [][]byte{other[:1000], other[1000:]} {
		a := front.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(part)))
		if a.status != http.StatusAccepted {
			t.Fatalf("chunk: %d %s", a.status, a.body)
		}
	}
	d = digest.FromBytes(other)
	if a := front.send(t, http.MethodPut, loc+"?digest="+d.String(), nil); a.status != http.StatusCreated {
		t.Fatalf("end: %d %s", a.status, a.body)
	}
	if a := host.do(t, http.MethodGet, "/v2/local/app/blobs/"+d.String()); !bytes.Equal(a.body, other) {
		t.Errorf("upstream: %d, %d bytes", a.status, len(a.body))
	}
	if a := front.send(t, http.MethodPost, "/v2/up/local/copy/blobs/uploads/?from=up/local/app&mount="+d.String(), nil); a.status != http.StatusCreated {
		t.Errorf("mount: %d %s", a.status, a.body)
	}
	if a := host.do(t, http.MethodHead, "/v2/local/copy/blobs/"+d.String()); a.status != http.StatusOK {
		t.Errorf("mounted: %d", a.status)
	}
}

// TestPushThroughRefused has pushes that the upstream, or the operator, does not take.
func TestPushThroughRefused(t *testing.T) {
	front, host := newFront(t, Hosting{Quota: 1000}, true)
	wrong := "/v2/up/local/app/blobs/uploads/?digest=" + digest.FromString("other").String()
	wantCode(t, "other bytes", front.send(t, http.MethodPost, wrong, bytes.NewReader(random(100, 1))), http.StatusBadRequest, "DIGEST_INVALID")
	large := random(2000, 1)
	d := digest.FromBytes(large)
	wantCode(t, "too large for the upstream",
		front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/?digest="+d.String(), bytes.NewReader(large)), http.StatusForbidden, "DENIED")
	wantCode(t, "which is not kept either", front.do(t, http.MethodGet, "/v2/up/local/app/blobs/"+d.String()), http.StatusNotFound, "BLOB_UNKNOWN")
	wantCode(t, "a manifest without its parts", front.putManifest(t, "up/local/app", "v1", image(d, d, 1)), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	if u := host.store.Usage(); u.Total() != u.Partial { // uploads that broke off are the upstream's to end
		t.Errorf("%d bytes are at the upstream, %d of them in uploads", u.Total(), u.Partial)
	}
	closed, _ := newFront(t, Hosting{}, false)
	a := closed.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil)
	wantCode(t, "not allowed", a, http.StatusMethodNotAllowed, "UNSUPPORTED")
	if !bytes.Contains(a.body, []byte("push: allow")) {
		t.Errorf("the refusal does not say what would help: %s", a.body)
	}
}

// TestPushThroughOffline: what goes to an upstream that is never asked is refused
// before a byte of it is taken, in words about pushing.
func TestPushThroughOffline(t *testing.T) {
	front, host := newFront(t, Hosting{}, true)
	d := front.pushImage(t, "up/local/app", "v1", random(100, 1))
	goOffline(t, &registry{Server: host.Server}, front)
	body := random(2000, 2)
	for name, a := range map[string]answer{
		"begin":      front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil),
		"in one go":  front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/?digest="+digest.FromBytes(body).String(), bytes.NewReader(body)),
		"a manifest": front.putManifest(t, "up/local/app", "v2", image(d, d, 1)),
		"deletion":   front.send(t, http.MethodDelete, "/v2/up/local/app/manifests/"+d.String(), nil),
	} {
		wantCode(t, name, a, http.StatusMethodNotAllowed, "UNSUPPORTED")
		if !bytes.Contains(a.body, []byte("up is offline by configuration: nothing is pushed or deleted there")) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	if n := front.store.Usage().Open.Uploads; n != 0 {
		t.Errorf("%d uploads are open", n)
	}
	if a := front.do(t, http.MethodGet, "/v2/up/local/app/manifests/v1"); a.status != http.StatusOK {
		t.Errorf("pull of what is here: %d %s", a.status, a.body)
	}
}

// changes notes whose lists are said to have changed.
type changes struct {
	tellsAll
	of []digest.Digest
}

func (c *changes) Changed(_ context.Context, _ oci.Repo, d digest.Digest) error {
	c.of = append(c.of, d)
	return nil
}

// TestReferrerPushedThrough: the list of whatever a pushed referrer refers to is
// asked for anew, by the API or by the tag that stands for it.
func TestReferrerPushedThrough(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	told := &changes{}
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough, o.Referrers = true, told
	})
	subject := front.pushImage(t, "up/local/app", "v1", random(100, 1))
	if len(told.of) != 0 {
		t.Errorf("an image that refers to nothing changed the lists of %v", told.of)
	}
	body := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[],"subject":{"mediaType":"` +
		v1.MediaTypeImageManifest + `","digest":"` + subject.String() + `","size":1}}`
	for _, tag := range []string{"sig", "sha256-" + subject.Encoded()} {
		told.of = nil
		doc := body
		if tag != "sig" {
			doc = `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`
		}
		a := front.send(t, http.MethodPut, "/v2/up/local/app/manifests/"+tag, strings.NewReader(doc), "Content-Type", v1.MediaTypeImageIndex)
		if a.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", tag, a.status, a.body)
		}
		if diff := cmp.Diff([]digest.Digest{subject}, told.of); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tag, diff)
		}
	}
}

// TestNotAMatterOfLoggingIn: what nobody may do is told to those, too, who would
// have to log in for all else.
func TestNotAMatterOfLoggingIn(t *testing.T) {
	refuse := accessFunc(func(*http.Request, oci.Repo, oci.Action) error {
		return oci.NewError(errcode.ErrorCodeUnauthorized, "who are you")
	})
	s := newServer(t, newRegistry(t), func(o *Options) { o.Access = refuse })
	wantCode(t, "push", s.send(t, http.MethodPost, "/v2/up/a/blobs/uploads/", nil), http.StatusMethodNotAllowed, "UNSUPPORTED")
	wantCode(t, "delete", s.send(t, http.MethodDelete, "/v2/up/a/manifests/v1", nil), http.StatusMethodNotAllowed, "UNSUPPORTED")
	wantCode(t, "pull", s.do(t, http.MethodGet, "/v2/up/a/tags/list"), http.StatusUnauthorized, "UNAUTHORIZED")
}

// fickle gives up its first push of a blob, as when the client paused for long.
type fickle struct {
	Registry
	Pusher
	pushes atomic.Int32
}

func (f *fickle) PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	if f.pushes.Add(1) == 1 {
		rc, err := open() // it was begun
		if err != nil {
			return err
		}
		return errors.Join(errors.New("the upload stands still"), rc.Close())
	}
	return f.Pusher.PushBlob(ctx, repo, open, d)
}

// TestPauseBetweenChunks: what was sent before the forward was given up is not
// lost with it.
func TestPauseBetweenChunks(t *testing.T) {
	host := newHost(t, Hosting{}, nil)
	var up *fickle
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough = true
		up = &fickle{Registry: o.Upstreams[0].Registry, Pusher: o.Upstreams[0].Registry.(Pusher)}
		o.Upstreams[0].Registry = up
	})
	blob := random(5000, 2)
	d := digest.FromBytes(blob)
	loc := front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
	for _, part := range [][]byte{blob[:1000], blob[1000:]} {
		if a := front.send(t, http.MethodPatch, loc, bytes.NewReader(part)); a.status != http.StatusAccepted {
			t.Fatalf("chunk: %d %s", a.status, a.body)
		}
		waitFor(t, func() bool { return front.forwarded() == 0 })
	}
	if a := front.send(t, http.MethodPut, loc+"?digest="+d.String(), nil); a.status != http.StatusCreated || up.pushes.Load() != 2 {
		t.Errorf("end: %d %s after %d pushes, want 201 after 2", a.status, a.body, up.pushes.Load())
	}
	if a := host.do(t, http.MethodGet, "/v2/local/app/blobs/"+d.String()); !bytes.Equal(a.body, blob) {
		t.Errorf("upstream: %d, %d bytes", a.status, len(a.body))
	}
}

func (s *server) forwarded() int {
	s.p.forwards.mu.Lock()
	defer s.p.forwards.mu.Unlock()
	return len(s.p.forwards.m)
}

// TestForwardsEnd: nothing is left of those whose upload did not come to its end.
func TestForwardsEnd(t *testing.T) {
	front, _ := newFront(t, Hosting{}, true)
	wrong := "?digest=" + digest.FromString("other").String()
	for _, last := range [][2]string{{http.MethodDelete, ""}, {http.MethodPut, wrong}} {
		loc := front.send(t, http.MethodPost, "/v2/up/local/app/blobs/uploads/", nil).header.Get("Location")
		front.send(t, http.MethodPatch, loc, bytes.NewReader(random(100, 1)))
		front.send(t, last[0], loc+last[1], nil)
	}
	waitFor(t, func() bool { return front.forwarded() == 0 })
}
