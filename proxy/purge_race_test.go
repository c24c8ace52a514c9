package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestPurgedWhileItComes purges a blob in the middle of its way here, and blocks it,
// too: who is being sent it may have the rest, nothing of it is kept, and nobody
// else gets it who must not.
func TestPurgedWhileItComes(t *testing.T) {
	const size, first = 4 << 20, 2 << 20
	for _, block := range []bool{false, true} {
		t.Run(fmt.Sprint("block ", block), func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
			layer := random(size, 61)
			d := g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			purged := make(chan struct{})
			end := sync.OnceFunc(func() { close(purged) })
			defer end()
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
					return false
				}
				w.Header().Set("Content-Length", fmt.Sprint(size))
				_, _ = w.Write(body[:first])
				_ = http.NewResponseController(w).Flush()
				<-purged
				_, _ = w.Write(body[first:])
				return true
			}
			resp, got := s.pulling(t, path, first-holdBack)
			defer resp.Body.Close()
			if block {
				if err := s.store.Block(t.Context(), storage.BlockRow{Digest: d}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.store.Purge(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			end()
			rest, err := io.ReadAll(resp.Body)
			if whole := bytes.Equal(append(got, rest...), layer); whole != (err == nil) {
				t.Errorf("the client has %d bytes, right to the end %t, and %v", len(got)+len(rest), whole, err)
			}
			waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
			if _, err := s.store.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Stat of what was purged: %v", err)
			}
			a := s.do(t, http.MethodGet, path, "Range", "bytes=10-19")
			if block && a.status != http.StatusForbidden || !block && !bytes.Equal(a.body, layer[10:20]) {
				t.Errorf("afterwards: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
}
