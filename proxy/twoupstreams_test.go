package proxy

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTwoUpstreamsOneBlob: while a blob is being fetched from one upstream, all who
// ask another one for it share one transfer from that, and it is kept.
func TestTwoUpstreamsOneBlob(t *testing.T) {
	for name, header := range map[string][]string{"whole": nil, "a range": {"Range", "bytes=1000-1999"}} {
		t.Run(name, func(t *testing.T) {
			g, other := newRegistry(t), newRegistry(t)
			s := newServer(t, g, second(t, other, "other"))
			layer := random(2<<20, 3)
			d := g.addBlob("a", layer)
			other.addBlob("b", layer)
			began, release, all := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
			letFirst, letAll := sync.OnceFunc(func() { close(release) }), sync.OnceFunc(func() { close(all) })
			defer letFirst()
			defer letAll()
			g.serveAs(func(http.ResponseWriter, *http.Request, []byte) bool {
				began <- struct{}{}
				<-release
				return false
			})
			other.serveAs(func(http.ResponseWriter, *http.Request, []byte) bool {
				<-all
				return false
			})
			var first, them sync.WaitGroup
			var got answer
			first.Go(func() { got = s.do(t, "GET", "/v2/up/a/blobs/"+d.String()) })
			<-began
			const n = 16
			want := layer
			if header != nil {
				want = layer[1000:2000]
			}
			for range n {
				them.Go(func() {
					a := s.do(t, "GET", "/v2/other/b/blobs/"+d.String(), header...)
					if a.status/100 != 2 || a.err != nil || !bytes.Equal(a.body, want) {
						t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
					}
				})
			}
			waitFor(t, func() bool { return s.usersAt("other", d) == n })
			letAll()
			them.Wait()
			if asked := other.take(); len(asked) != 1 {
				t.Errorf("the second upstream was asked for %q", asked)
			}
			letFirst()
			first.Wait()
			if got.status != 200 || got.err != nil || !bytes.Equal(got.body, layer) {
				t.Errorf("the first: %d, %d bytes, %v", got.status, len(got.body), got.err)
			}
			if diff := cmp.Diff([]string{"GET blobs"}, g.take()); diff != "" {
				t.Errorf("the first upstream's requests (-want +got):\n%s", diff)
			}
			if _, err := s.store.Stat(t.Context(), d); err != nil {
				t.Errorf("not kept: %v", err)
			}
			s.p.complaints.mu.Lock()
			defer s.p.complaints.mu.Unlock()
			if len(s.p.complaints.by) != 0 {
				t.Errorf("the log was told that the store failed: %v", s.p.complaints.by)
			}
		})
	}
}
