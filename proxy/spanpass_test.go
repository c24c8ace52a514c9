package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestSpansDiskFull has the medium refuse spans from the first on, or in the
// middle of an answer: the range goes on to its end, verified and not kept.
func TestSpansDiskFull(t *testing.T) {
	layer := tarGz(t, 60)
	for _, tt := range []struct {
		op    string
		after int32 // so many have gone well
		wrong bool  // upstream's bytes are, of a later span
	}{{"create", 0, false}, {"create", 3, false}, {"write", 1, false}, {"rename", 1, false}, {"create", 1, true}} {
		t.Run(fmt.Sprintf("%s %d, wrong %v", tt.op, tt.after, tt.wrong), func(t *testing.T) {
			g := newRegistry(t)
			dir := t.TempDir()
			faults := storagetest.NewFaults(dir)
			s := newServerAt(t, dir, g, nil, func(o *storage.Options) {
				blobs, err := disk.NewFS(filepath.Join(dir, "full"), faults.FS(disk.OS{}))
				if err != nil {
					t.Fatal(err)
				}
				o.Blobs = blobs
			})
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			a, b := table.Span(1).Off+10, table.Span(7).End-10
			if tt.wrong {
				bad := bytes.Clone(layer)
				bad[table.Span(6).Off+10] ^= 1
				g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
					return true
				}
			}
			var well atomic.Int32
			faults.Hook(func(step storagetest.Step) error {
				if step.Op == tt.op && well.Add(1) > tt.after {
					return syscall.ENOSPC
				}
				return nil
			})
			got := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", a, b-1))
			whole := got.err == nil && bytes.Equal(got.body, layer[a:b])
			if got.status != http.StatusPartialContent || whole == tt.wrong {
				t.Errorf("%d, %d bytes of %d, %v", got.status, len(got.body), b-a, got.err)
			}
			if n := testutil.ToFloat64(s.p.metrics.passed); n != 1 {
				t.Errorf("%v answers were counted as passed on, want 1", n)
			}
		})
	}
}

// TestSpansOfSmallStore reads a layer that is larger than the store: the spans
// that are fetched ahead do not push out those that were not sent.
func TestSpansOfSmallStore(t *testing.T) {
	g := newRegistry(t)
	layer := tarGz(t, 200)
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = int64(len(layer)) / 2 })
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	got := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=1-%d", len(layer)-2))
	if got.status != http.StatusPartialContent || got.err != nil || !bytes.Equal(got.body, layer[1:len(layer)-1]) {
		t.Errorf("%d, %d bytes of %d, %v", got.status, len(got.body), len(layer)-2, got.err)
	}
	if n := testutil.ToFloat64(s.p.metrics.passed); n != 0 {
		t.Errorf("%v answers were passed on without being kept, want 0", n)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sent > int64(len(layer)+table.Len()) { // neighbours may share a byte
		t.Errorf("upstream sent %d bytes of %d", g.sent, len(layer))
	}
}

// TestSpansOfFullStore reads a layer's span for which a store full of hosted content
// has no room: by one request to the upstream.
func TestSpansOfFullStore(t *testing.T) {
	g := newRegistry(t)
	layer := tarGz(t, 60)
	s := newFullServer(t, g, 1000, nil)
	d, table := index(t, s, layer)
	g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	s.do(t, http.MethodHead, path) // the right
	g.take()
	sp := table.Span(2)
	got := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-%d", sp.Off+10, sp.End-10))
	if got.status != http.StatusPartialContent || got.err != nil || !bytes.Equal(got.body, layer[sp.Off+10:sp.End-9]) {
		t.Errorf("%d, %d bytes, %v", got.status, len(got.body), got.err)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("GET blobs %d-%d", sp.Off, sp.End-1)}, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
}
