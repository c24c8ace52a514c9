package proxy

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPassingOfKnownSize is TestPassingIsShared where the size is known before upstream is
// asked, and so that there is no room.
func TestPassingOfKnownSize(t *testing.T) {
	const clients = 8
	for _, tt := range []struct {
		name   string
		blob   []byte
		before func(t *testing.T, s *server, path string, blob []byte)
	}{
		{"a range was read", random(3<<20, 67), func(t *testing.T, s *server, path string, blob []byte) {
			a := s.do(t, http.MethodGet, path, "Range", "bytes=1000-1999")
			if a.status != http.StatusPartialContent || !bytes.Equal(a.body, blob[1000:2000]) {
				t.Fatalf("the range: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		}},
		{"an index was made", tarGz(t, 300), func(t *testing.T, s *server, _ string, blob []byte) { index(t, s, blob) }},
	} {
		for _, down := range []bool{false, true} {
			name := tt.name
			if down {
				name += ", upstream does not send it"
			}
			t.Run(name, func(t *testing.T) {
				g := newRegistry(t)
				s := newFullServer(t, g, 600_000, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
				s.p.passGrace = time.Hour // however busy the machine is
				d := g.addBlob("a", tt.blob)
				path := "/v2/up/a/blobs/" + d.String()
				tt.before(t, s, path, tt.blob)
				s.do(t, http.MethodHead, path) // it is known who may
				g.take()
				goOn := make(chan struct{})
				g.serveAs(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
					<-goOn
					if down {
						http.NotFound(w, nil)
					}
					return down
				})
				want := answer{status: http.StatusOK, body: tt.blob}
				if down {
					want.status = http.StatusNotFound
				}
				var all sync.WaitGroup
				for range clients {
					all.Go(func() {
						a := s.do(t, http.MethodGet, path)
						if a.status != want.status || a.err != nil || !down && !bytes.Equal(a.body, want.body) {
							t.Errorf("%d, %d of %d bytes, %v", a.status, len(a.body), len(tt.blob), a.err)
						}
					})
				}
				waitFor(t, func() bool { return s.heirs(d) == clients })
				close(goOn)
				all.Wait()
				if diff := cmp.Diff([]string{"GET blobs"}, g.take()); diff != "" {
					t.Errorf("upstream requests (-want +got):\n%s", diff)
				}
				waitFor(t, func() bool { return s.p.passings.Load() == 0 })
			})
		}
	}
}
