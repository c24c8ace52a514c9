package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestNeighboursCoalesce has 64 clients ask for 64 neighbouring pieces of a blob
// that is cold: a handful of upstream requests brings them all, and no byte
// comes twice.
func TestNeighboursCoalesce(t *testing.T) {
	const clients = 64
	for _, indexed := range []bool{false, true} {
		t.Run(fmt.Sprintf("indexed %t", indexed), func(t *testing.T) {
			g := newRegistry(t)
			in := &arrivals{all: make(chan struct{})}
			s := newServer(t, g, func(o *Options) { o.Access = in })
			blob := random(clients*cell, 6)
			piece := func(i int) (from, to int) { return i * cell, (i + 1) * cell }
			if indexed {
				blob = tarGz(t, 300)
				_, table := index(t, s, blob)
				if table.Len() < clients {
					t.Fatalf("%d spans, want %d", table.Len(), clients)
				}
				piece = func(i int) (from, to int) { return int(table.Span(i).Off), int(table.Span(i).End) }
			}
			d := g.addBlob("a", blob)
			path := "/v2/up/a/blobs/" + d.String()
			s.do(t, http.MethodHead, path)
			g.take()
			in.seen.Store(0)
			in.want.Store(clients)
			g.mu.Lock()
			g.serve = func(http.ResponseWriter, *http.Request, []byte) bool {
				<-in.all // an upstream that takes longer to answer than they take to come
				return false
			}
			g.mu.Unlock()
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() {
					from, to := piece(i)
					a := s.do(t, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
					if a.status != http.StatusPartialContent || !bytes.Equal(a.body, blob[from:to]) {
						t.Errorf("piece %d: status %d, %d bytes, %v", i, a.status, len(a.body), a.err)
					}
				})
			}
			all.Wait()
			asked := g.take()
			if len(asked) > 16 {
				t.Errorf("%d upstream requests for %d neighbours: %q", len(asked), clients, asked)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.sent > int64(len(blob))+int64(len(asked))*cell {
				t.Errorf("upstream sent %d bytes of %d", g.sent, len(blob))
			}
		})
	}
}

// arrivals lets everybody in, and counts.
type arrivals struct {
	want, seen atomic.Int32
	all        chan struct{} // closed when as many are in as are wanted
}

func (a *arrivals) May(*http.Request, oci.Repo, oci.Action) error {
	if n := a.want.Load(); a.seen.Add(1) == n && n > 0 {
		close(a.all)
	}
	return nil
}

// TestManyClientsOneCell is TestManyClientsOneSpan for a blob without an index.
func TestManyClientsOneCell(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	blob := random(8*cell, 16)
	d := g.addBlob("a", blob)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", "bytes=600000-700000")
			if a.status != http.StatusPartialContent || !bytes.Equal(a.body, blob[600_000:700_001]) {
				t.Errorf("status %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	all.Wait()
	if got := strings.Join(g.take(), ", "); got != "GET blobs 524288-786431" {
		t.Errorf("upstream requests %q, want one for one cell", got)
	}
}
