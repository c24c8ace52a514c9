package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// tapped is an indexer that reads what comes, and hears what is here whole.
type tapped struct {
	noIndexer
	end   chan error
	whole chan digest.Digest
}

func newTapped() *tapped {
	return &tapped{end: make(chan error, 10), whole: make(chan digest.Digest, 10)}
}

func (x *tapped) Tap(_ digest.Digest, _ int64, open func() (io.ReadCloser, error)) {
	go func() {
		r, err := open()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			err = errors.Join(err, r.Close())
		}
		x.end <- err
	}()
}

func (x *tapped) Whole(d digest.Digest) { x.whole <- d }

// halfway is an upstream's blob of which the first request is sent half, and the rest
// when it is told; all others are answered at once.
type halfway struct {
	layer    []byte
	d        digest.Digest
	gets     atomic.Int32
	on, left chan struct{} // goes on when on is closed; left is closed when its client has gone
}

func newHalfway(g *registry, size int, seed byte) *halfway {
	h := &halfway{layer: random(size, seed), on: make(chan struct{}), left: make(chan struct{})}
	h.d = g.addBlob("a", h.layer)
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method != http.MethodGet || h.gets.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-h.on:
			_, _ = w.Write(body[len(body)/2:])
		case <-r.Context().Done():
			close(h.left)
		}
		return true
	}
	return h
}

func (h *halfway) path() string { return "/v2/up/a/blobs/" + h.d.String() }

// begin gets the blob, and returns when some of it has come. rest reads the others and
// compares.
func (h *halfway) begin(t *testing.T, s *server) (resp *http.Response, rest func() error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+h.path(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err = s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	got := make([]byte, 100_000)
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		t.Fatal(err)
	}
	return resp, func() error {
		rest, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.Equal(append(got, rest...), h.layer) {
			err = fmt.Errorf("%d bytes, or others than upstream's", len(got)+len(rest))
		}
		return err
	}
}

// purge is what an operator does, with or without --block.
func (s *server) purge(t *testing.T, d digest.Digest, block bool) {
	t.Helper()
	if block {
		if err := s.store.Block(t.Context(), storage.BlockRow{Digest: d}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.store.Purge(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// wantNothing waits until no byte of a blob is here or takes room.
func (s *server) wantNothing(t *testing.T, d digest.Digest) {
	t.Helper()
	waitFor(t, func() bool { return s.store.Usage().Total() == 0 })
	if _, err := s.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of what was purged: %v", err)
	}
}

// TestPurgedUnderFollowers purges a blob that many are being sent: they have the rest
// by the one request that is under way, and neither store nor indexer has any of it.
func TestPurgedUnderFollowers(t *testing.T) {
	for _, block := range []bool{false, true} {
		t.Run(fmt.Sprint("block ", block), func(t *testing.T) {
			g, index := newRegistry(t), newTapped()
			s := newServer(t, g, func(o *Options) { o.Indexer, o.Upstreams[0].Registry = index, patientClient(t, g) })
			h := newHalfway(g, 4<<20, 62)
			var done sync.WaitGroup
			for range 8 {
				_, rest := h.begin(t, s)
				done.Go(func() {
					if err := rest(); err != nil {
						t.Error(err)
					}
				})
			}
			s.purge(t, h.d, block)
			if err := <-index.end; err == nil {
				t.Error("the indexer has read all of it")
			}
			if a := s.do(t, http.MethodHead, h.path()); block && a.status != http.StatusForbidden {
				t.Errorf("HEAD of what is blocked: %d", a.status)
			}
			close(h.on)
			done.Wait()
			if n := h.gets.Load(); n != 1 {
				t.Errorf("%d upstream requests, want one", n)
			}
			s.wantNothing(t, h.d)
			if n := testutil.ToFloat64(s.p.metrics.passed); n != 0 || len(index.whole) > 0 {
				t.Errorf("%v were counted as passed on for the store's sake, the indexer was told %d times that it is here", n, len(index.whole))
			}
		})
	}
}

// TestPurgedAndLeft: what was purged comes on for those alone who are being sent it,
// whatever else keeps a transfer.
func TestPurgedAndLeft(t *testing.T) {
	for name, c := range map[string]struct {
		block, kept bool
		before      bool // the client leaves before the purge
	}{
		"leaves after":                {},
		"blocked":                     {block: true},
		"fetched on purpose":          {kept: true},
		"left before":                 {before: true},
		"left before, and on purpose": {before: true, kept: true, block: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, index := newRegistry(t), newTapped()
			s := newServer(t, g, func(o *Options) { o.Indexer, o.Upstreams[0].Registry = index, patientClient(t, g) })
			h := newHalfway(g, 4<<20, 63)
			resp, _ := h.begin(t, s)
			if c.kept {
				s.p.grow(t.Context(), s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}, h.d)
			}
			leave := func() { _ = resp.Body.Close() }
			if c.before {
				leave()
				f := s.fillOf(h.d)
				waitFor(t, func() bool {
					f.mu.Lock()
					defer f.mu.Unlock()
					return f.refs == 0
				})
			}
			s.purge(t, h.d, c.block)
			leave()
			<-h.left
			<-index.end
			s.wantNothing(t, h.d)
		})
	}
}

func (s *server) fillOf(d digest.Digest) *fill {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.fills[fillKey{"up", d}]
}

// TestPurgedThenPulled: who asks after a purge begins anew, and what comes of that is
// kept, while who asked before has the rest of the old one.
func TestPurgedThenPulled(t *testing.T) {
	for _, ranged := range []bool{false, true} {
		t.Run(fmt.Sprint("ranged ", ranged), func(t *testing.T) {
			g, index := newRegistry(t), newTapped()
			s := newServer(t, g, func(o *Options) { o.Indexer, o.Upstreams[0].Registry = index, patientClient(t, g) })
			h := newHalfway(g, 4<<20, 64)
			_, first := h.begin(t, s)
			s.purge(t, h.d, false)
			<-index.end
			if ranged {
				if a := s.do(t, http.MethodGet, h.path(), "Range", "bytes=3000000-3000009"); !bytes.Equal(a.body, h.layer[3000000:3000010]) {
					t.Errorf("a range afterwards: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			}
			if a := s.do(t, http.MethodGet, h.path()); a.err != nil || !bytes.Equal(a.body, h.layer) {
				t.Errorf("afterwards: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			if err := <-index.end; err != nil || <-index.whole != h.d {
				t.Errorf("the indexer read it anew: %v", err)
			}
			if row, err := s.store.Stat(t.Context(), h.d); err != nil || row.Size != int64(len(h.layer)) {
				t.Errorf("what came afterwards is kept as %+v, %v", row, err)
			}
			close(h.on)
			if err := first(); err != nil {
				t.Errorf("who asked before: %v", err)
			}
			waitFor(t, func() bool { u := s.store.Usage(); return u.Partial == 0 && u.Total() == int64(len(h.layer)) })
			g.take()
			if a := s.do(t, http.MethodGet, h.path()); !bytes.Equal(a.body, h.layer) || len(g.take()) != 0 {
				t.Errorf("in the end: %d, %d bytes, X-Cache %s", a.status, len(a.body), a.header.Get("X-Cache"))
			}
		})
	}
}

// TestPurgedWhilePulled: an image is here whole when its pull has ended, and what is
// blocked is told.
func TestPurgedWhilePulled(t *testing.T) {
	for _, block := range []bool{false, true} {
		t.Run(fmt.Sprint("block ", block), func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
			config := g.addBlob("a", oci.EmptyJSON)
			h := newHalfway(g, 4<<20, 65)
			half := g.serve
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				return len(body) == len(h.layer) && half(w, r, body)
			}
			g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(config, h.d, len(h.layer)))
			begun := make(chan struct{})
			once := sync.OnceFunc(func() { close(begun) })
			ended := make(chan error, 1)
			var last oci.PullProgress
			go func() {
				_, err := s.p.Pull(context.WithoutCancel(t.Context()), oci.Repo{Upstream: "up", Name: "a"}, oci.Reference{Tag: "v1"}, oci.PullOptions{Progress: func(now oci.PullProgress) {
					if last = now; now.Bytes > 1<<20 {
						once()
					}
				}})
				ended <- err
			}()
			<-begun
			s.purge(t, h.d, block)
			<-h.left
			err := <-ended
			if block {
				if !errors.Is(err, storage.ErrBlocked) {
					t.Errorf("pull of what is blocked meanwhile: %v", err)
				}
				return
			}
			if _, serr := s.store.Stat(t.Context(), h.d); err != nil || serr != nil {
				t.Errorf("pull: %v; its layer is here: %v", err, serr)
			}
			if last.Bytes != last.OfBytes || last.Blobs != last.OfBlobs {
				t.Errorf("in the end it is at %+v", last)
			}
		})
	}
}
