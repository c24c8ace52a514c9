package proxy

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// rejecting counts what is held against its upstream.
type rejecting struct {
	Registry
	n atomic.Int32
}

func (r *rejecting) Reject(digest.Digest) { r.n.Add(1) }

// leave files b, from byte 0 on, as what an earlier process had of d, of size bytes.
func (s *server) leave(t *testing.T, d digest.Digest, size int, b []byte) {
	t.Helper()
	part, err := s.store.OpenPartialFrom(t.Context(), d, "up")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := part.Checkpoint(t.Context(), int64(size), []oci.Range{{End: int64(len(b))}}); err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLeftBytesAreSpoilt goes on with what an earlier process left, which is wrong, or
// the upstream's rest is: nobody can tell, so that the upstream is blamed only once it
// has sent all of it.
func TestLeftBytesAreSpoilt(t *testing.T) {
	layer := random(2<<20, 65)
	spoilt := func(at int) []byte {
		b := bytes.Clone(layer)
		b[at] ^= 1
		return b
	}
	for name, tt := range map[string]struct {
		left, sent []byte
		right      bool // the second answer
	}{
		"here":         {spoilt(1000), layer, true},
		"the upstream": {layer, spoilt(len(layer) - 1000), false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			d := g.addBlob("a", layer)
			g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(tt.sent))
				return true
			}
			var log lines
			held := &rejecting{}
			s := newServer(t, g, func(o *Options) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				held.Registry, o.Upstreams[0].Registry = o.Upstreams[0].Registry, held
			})
			s.leave(t, d, len(layer), tt.left[:1<<20])
			get := func() (a answer, counted float64, said string) {
				a = s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String())
				waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
				log.mu.Lock()
				defer log.mu.Unlock()
				said = log.buf.String()
				return a, testutil.ToFloat64(s.p.metrics.mismatches.WithLabelValues("up")), said
			}
			a, counted, said := get()
			if a.err == nil && a.status == http.StatusOK {
				t.Errorf("all of a wrong blob was sent: %d bytes", len(a.body))
			}
			if counted+float64(held.n.Load()) != 0 || strings.Contains(said, "upstream sent wrong bytes") || !strings.Contains(said, "kept of a blob from before") {
				t.Errorf("the upstream is held to have sent what was here: counted %v, distrusted %d times, said %q", counted, held.n.Load(), said)
			}
			g.take()
			a, counted, said = get()
			if right := a.status == http.StatusOK && a.err == nil && bytes.Equal(a.body, layer); right != tt.right {
				t.Errorf("the second: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
			}
			if asked := strings.Join(g.take(), ", "); asked != "GET blobs" {
				t.Errorf("the second asked the upstream %q, want all of it", asked)
			}
			want := 1
			if tt.right {
				want = 0
			}
			if int(counted) != want || int(held.n.Load()) != want || strings.Contains(said, "upstream sent wrong bytes") != (want == 1) {
				t.Errorf("the second: counted %v, distrusted %d times, want %d; said %q", counted, held.n.Load(), want, said)
			}
		})
	}
}

// TestLeftBytesAreSpoiltInFullStore has a client go on with a pull whose front is here,
// and spoilt, when the store has no room for the rest, which is passed on behind it.
func TestLeftBytesAreSpoiltInFullStore(t *testing.T) {
	g := newRegistry(t)
	layer := random(4<<20, 66)
	d := g.addBlob("a", layer)
	held := &rejecting{}
	s := newServerAt(t, t.TempDir(), g, func(o *Options) {
		held.Registry, o.Upstreams[0].Registry = o.Upstreams[0].Registry, held
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
	}, func(o *storage.Options) { o.MaxBytes = 8 << 20 })
	front := bytes.Clone(layer[:2<<20])
	front[1000] ^= 1
	s.leave(t, d, len(layer), front)
	s.pushBlob(t, "local/a", random(5<<20, 2))
	path := "/v2/up/a/blobs/" + d.String()
	if a := s.do(t, http.MethodGet, path, "Range", "bytes=2097152-"); a.status != http.StatusPartialContent || a.err == nil {
		t.Errorf("the rest of a wrong blob: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
	if n := testutil.ToFloat64(s.p.metrics.mismatches.WithLabelValues("up")) + float64(held.n.Load()); n != 0 {
		t.Errorf("held against the upstream: %v", n)
	}
	err := s.store.View(t.Context(), func(tx storage.Tx) error { _, err := tx.Partial(d); return err })
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what was spoilt is kept: %v", err)
	}
	if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("the next: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
}
