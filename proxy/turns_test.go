package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/upstream"
)

// TestNoTurnsInTrouble has clients of many repositories wait for one blob of an
// upstream that answers none of them: it is not asked by each in turn, and all are
// told. What it says of one repository alone is asked for by the next.
func TestNoTurnsInTrouble(t *testing.T) {
	const repositories, retries = 12, 1
	for status, most := range map[int]int{http.StatusServiceUnavailable: 2 * (1 + retries), http.StatusTooManyRequests: 1 + retries} {
		for _, header := range [][]string{nil, {"Range", "bytes=1000-1999"}} {
			t.Run(fmt.Sprint(status, header), func(t *testing.T) {
				g := newRegistry(t)
				u, err := url.Parse(g.URL)
				if err != nil {
					t.Fatal(err)
				}
				c, err := upstream.New(upstream.Options{
					Name: "up", URL: u, StallTimeout: time.Minute, HeaderTimeout: time.Minute, Retries: retries, Backoff: time.Millisecond, BreakerFailures: 1000,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = c })
				blob := random(1<<20, 1)
				d := g.addBlob("r0", blob)
				for i := range repositories {
					g.addBlob(fmt.Sprint("r", i), blob)
					s.do(t, http.MethodHead, fmt.Sprintf("/v2/up/r%d/blobs/%s", i, d))
				}
				all := make(chan struct{})
				join := sync.OnceFunc(func() { close(all) })
				defer join()
				g.serveAs(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
					<-all
					w.WriteHeader(status)
					return true
				})
				g.take()
				var clients sync.WaitGroup
				for i := range repositories {
					clients.Go(func() {
						if a := s.do(t, http.MethodGet, fmt.Sprintf("/v2/up/r%d/blobs/%s", i, d), header...); a.status != status {
							t.Errorf("repository %d: %d, want %d", i, a.status, status)
						}
					})
				}
				waitFor(t, func() bool { return s.users(d) == repositories })
				join()
				clients.Wait()
				if asked := g.take(); len(asked) > most {
					t.Errorf("upstream was asked %d times, want %d at most: %q", len(asked), most, asked)
				}
			})
		}
	}
}
