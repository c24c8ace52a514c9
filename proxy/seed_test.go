package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// readSpans reads the first n spans of a layer, one by one, without its first bytes,
// which stand in its row.
func readSpans(t *testing.T, s *server, path string, table ztoc.SpanTable, n int) {
	t.Helper()
	for i := range n {
		sp := table.Span(i)
		a := s.do(t, "GET", path, "Range", fmt.Sprintf("bytes=%d-%d", max(600, sp.Off), sp.End-1))
		if a.status != 206 || a.err != nil {
			t.Fatalf("span %d: status %d, %v", i, a.status, a.err)
		}
	}
	if err := s.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPullOverRottenSpan: a span changed on the medium since it came, and the layer is
// pulled whole. That span is fetched again, and nobody is told that upstream did it.
func TestPullOverRottenSpan(t *testing.T) {
	for name, rot := range map[string]func(file string, body []byte) error{
		"flipped": func(file string, body []byte) error {
			body[len(body)/2] ^= 1
			return os.WriteFile(file, body, 0o600)
		},
		"cut off": func(file string, body []byte) error { return os.Truncate(file, int64(len(body)/2)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			dir := t.TempDir()
			s := newServerAt(t, dir, g, nil, nil)
			layer := tarGz(t, 60)
			d, table := index(t, s, layer)
			g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			readSpans(t, s, path, table, 5)
			bad := table.Span(2)
			damage(t, dir, bad.Digest, rot)
			g.mu.Lock()
			before := g.sent
			g.mu.Unlock()
			a := s.do(t, "GET", path)
			if a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("whole: status %d, %d bytes of %d, %v", a.status, len(a.body), len(layer), a.err)
			}
			g.mu.Lock()
			sent := g.sent - before
			g.mu.Unlock()
			front, middle, end := table.Span(0).Off, table.Span(3).Off-table.Span(1).End, int64(len(layer))-table.Span(4).End
			if want := front + middle + end; sent != want {
				t.Errorf("upstream sent %d bytes, want %d: in front of the spans, in the place of the wrong one, behind them", sent, want)
			}
			if n := testutil.ToFloat64(s.p.metrics.mismatches.WithLabelValues("up")); n != 0 {
				t.Errorf("%v wrong answers of the upstream are counted", n)
			}
			if _, err := s.store.Stat(t.Context(), bad.Digest); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the wrong span: %v", err)
			}
			waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
		})
	}
}

// damage changes what is stored of d.
func damage(t *testing.T, dir string, d digest.Digest, rot func(file string, body []byte) error) {
	t.Helper()
	file := filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
	body, err := os.ReadFile(file)
	if err == nil {
		err = errors.Join(os.Chmod(file, 0o600), rot(file, body))
	}
	if err != nil {
		t.Fatal(err)
	}
}
