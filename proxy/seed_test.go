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

// spansHere is how many of the layer's first n spans are stored.
func spansHere(t *testing.T, s *server, table ztoc.SpanTable, n int) (here int) {
	t.Helper()
	for i := range n {
		if _, err := s.store.Stat(t.Context(), table.Span(i).Digest); err == nil {
			here++
		}
	}
	return here
}

// TestTooLargeLayerKeepsSpans: an indexed layer that can't become whole here, since it is
// larger than the store or than what hosted content leaves of it, is pulled whole, and is
// read by ranges until the policy has the rest fetched. Its spans stay, and nothing lies
// beside them.
func TestTooLargeLayerKeepsSpans(t *testing.T) {
	const n = 20 // spans that are read, of 870 kB together
	for name, tt := range map[string]struct{ limit, hosted int64 }{
		"larger than the store":    {1 << 20, 0},
		"larger than what is left": {3 << 20, 2 << 20},
	} {
		for how, whole := range map[string]bool{"pulled": true, "grows": false} {
			t.Run(name+", "+how, func(t *testing.T) {
				g := newRegistry(t)
				s := newServerAt(t, t.TempDir(), g, func(o *Options) { o.FillAfterPercent = 50 },
					func(o *storage.Options) { o.MaxBytes = tt.limit })
				if tt.hosted > 0 {
					body := random(int(tt.hosted), 7)
					row := storage.BlobRow{Digest: digest.FromBytes(body), Kind: storage.KindHosted}
					if err := s.store.Put(t.Context(), row, body, nil); err != nil {
						t.Fatal(err)
					}
				}
				layer := tarGz(t, 140)
				d, table := index(t, s, layer)
				g.addBlob("a", layer)
				path := "/v2/up/a/blobs/" + d.String()
				readSpans(t, s, path, table, n)
				for round := range 2 {
					g.take()
					if whole {
						if a := s.do(t, "GET", path); a.status != 200 || !bytes.Equal(a.body, layer) {
							t.Errorf("whole: status %d, %d bytes, %v", a.status, len(a.body), a.err)
						}
					} else {
						readSpans(t, s, path, table, n)
					}
					waitFor(t, func() bool { // for what comes behind the answer
						s.p.mu.Lock()
						defer s.p.mu.Unlock()
						return len(s.p.spanRuns)+len(s.p.fills) == 0
					})
					if asked := g.take(); !whole && len(asked) > 0 {
						t.Errorf("round %d: upstream was asked %q for spans that were here", round, asked)
					}
					if here := spansHere(t, s, table, n); here != n {
						t.Errorf("round %d: %d spans are here, want %d", round, here, n)
					}
					if part := s.store.Usage().Partial; part != 0 {
						t.Errorf("round %d: %d bytes lie in a partial that can't become whole", round, part)
					}
				}
			})
		}
	}
}
