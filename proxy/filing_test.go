package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// heldMeta is rows of which no write ends before release is closed, and then
// with err.
type heldMeta struct {
	storage.Meta
	release chan struct{}
	err     error
}

func (m *heldMeta) Update(ctx context.Context, fn func(storage.Tx) error) error {
	<-m.release
	if m.err != nil {
		return m.err
	}
	return m.Meta.Update(ctx, fn)
}

// told notes what an indexer is told, in order.
type told struct {
	noIndexer
	mu  sync.Mutex
	all []string
}

func (x *told) note(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, what)
}

func (x *told) list() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.all)
}

func (x *told) Manifest(context.Context, oci.Repo, storage.ManifestRow) error {
	x.note("manifest")
	return nil
}
func (x *told) Tap(digest.Digest, int64, func() (io.ReadCloser, error)) { x.note("tap") }
func (x *told) Whole(digest.Digest)                                     { x.note("whole") }

// TestManifestBeforeItsRows pulls an image while nothing can be written to the
// rows: the client waits for none of that, and upstream is asked once for each
// thing. Who needs the rows, waits for them.
func TestManifestBeforeItsRows(t *testing.T) {
	g := newRegistry(t)
	layer := random(300<<10, 33)
	g.addBlob("a", oci.EmptyJSON)
	d := g.addBlob("a", layer)
	body := image(oci.EmptyDigest, d, len(layer))
	md := g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	held := &heldMeta{release: make(chan struct{})}
	index := &told{}
	s := newServerAt(t, t.TempDir(), g, func(o *Options) { o.Indexer = index }, func(o *storage.Options) {
		held.Meta = o.Meta
		o.Meta = held
	})
	s.hasty = true
	release := sync.OnceFunc(func() { close(held.release) })
	t.Cleanup(release)
	for _, x := range []struct {
		method, path, want string
		body               []byte
	}{
		{http.MethodGet, "/v2/up/a/manifests/v1", "miss", []byte(body)},
		{http.MethodGet, "/v2/up/a/manifests/v1", "follow", []byte(body)},
		{http.MethodHead, "/v2/up/a/manifests/v1", "follow", nil},
		{http.MethodGet, "/v2/up/a/manifests/" + md.String(), "follow", []byte(body)},
		{http.MethodGet, "/v2/up/a/blobs/" + d.String(), "miss", layer},
	} {
		a := s.do(t, x.method, x.path)
		if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, x.body) || a.header.Get("X-Cache") != x.want {
			t.Errorf("%s %s: %d, %d bytes, %s, %v; want %s", x.method, x.path, a.status, len(a.body), a.header.Get("X-Cache"), a.err, x.want)
		}
	}
	if asked := g.take(); !slices.Equal(asked, []string{"GET manifests", "GET blobs"}) {
		t.Errorf("upstream was asked for %q", asked)
	}
	if all := index.list(); len(all) > 0 {
		t.Errorf("the indexer was told of %q, before it could know the manifest", all)
	}
	pulled := make(chan error, 1)
	go func() {
		_, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "a"}, oci.Reference{Tag: "v1"}, oci.PullOptions{})
		if err == nil {
			err = s.store.View(t.Context(), func(tx storage.Tx) error {
				_, err := tx.Manifest(md)
				return err
			})
		}
		pulled <- err
	}()
	release()
	if err := <-pulled; err != nil {
		t.Errorf("pull: %v", err)
	}
	s.hasty = false
	waitFor(t, func() bool { all := index.list(); return slices.Contains(all, "tap") && slices.Contains(all, "whole") })
	if all := index.list(); all[0] != "manifest" {
		t.Errorf("the indexer was told of %q", all)
	}
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.header.Get("X-Cache") != "hit" || string(a.body) != body {
		t.Errorf("afterwards: %s", a.header.Get("X-Cache"))
	}
}

// TestManifestLostBeforeItsRows ends the process, as far as the medium can tell,
// between the answer and the rows: the manifest is not here, and comes again.
func TestManifestLostBeforeItsRows(t *testing.T) {
	g := newRegistry(t)
	body := image(oci.EmptyDigest, digest.FromString("a layer"), 7)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	dir := t.TempDir()
	held := &heldMeta{release: make(chan struct{}), err: errors.New("killed")}
	s := newServerAt(t, dir, g, nil, func(o *storage.Options) {
		held.Meta = o.Meta
		o.Meta = held
	})
	s.hasty = true
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.status != http.StatusOK || string(a.body) != body {
		t.Errorf("%d %s", a.status, a.body)
	}
	close(held.release)
	s.stop()
	g.take()
	s = newServerAt(t, dir, g, nil, nil)
	for _, want := range []string{"miss", "hit"} {
		a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1")
		if a.status != http.StatusOK || string(a.body) != body || a.header.Get("X-Cache") != want {
			t.Errorf("%d %s, %s, want %s", a.status, a.body, a.header.Get("X-Cache"), want)
		}
	}
	if asked := g.take(); !slices.Equal(asked, []string{"GET manifests"}) {
		t.Errorf("upstream was asked for %q", asked)
	}
}

// TestManifestFiledMeanwhile has one who found no rows come to ask upstream when
// the manifest has just got them: it is asked for once, by tag and by digest.
func TestManifestFiledMeanwhile(t *testing.T) {
	g := newRegistry(t)
	body := image(oci.EmptyDigest, digest.FromString("a layer"), 7)
	d := g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	s := newServerAt(t, t.TempDir(), g, nil, nil)
	repo, up := oci.Repo{Upstream: "up", Name: "a"}, s.p.routes().def
	for _, ref := range []oci.Reference{{Tag: "v1"}, {Tag: "v1"}, {Digest: d}} {
		got, err := s.p.fetchManifest(t.Context(), up, repo, ref, "")
		if err == nil {
			err = got.filed(t.Context())
		}
		if err != nil || got.desc.Digest != d {
			t.Errorf("%s: %s, %v", ref, got.desc.Digest, err)
		}
	}
	if asked := g.take(); !slices.Equal(asked, []string{"GET manifests"}) {
		t.Errorf("upstream was asked for %q", asked)
	}
	other := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, digest.FromString("another"), 8))
	if got, err := s.p.fetchManifest(t.Context(), up, repo, oci.Reference{Tag: "v1"}, other); err != nil || got.desc.Digest != other {
		t.Errorf("a tag that has moved: %s, %v", got.desc.Digest, err)
	}
}
