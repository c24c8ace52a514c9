package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// TestRefusedToAnother has a repository that may not have a blob be asked for it
// first. Who asks by one that has it gets it, whatever the first is told, and the
// first gets nothing of it.
func TestRefusedToAnother(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		for _, header := range [][]string{nil, {"Range", "bytes=1000-1999"}} {
			for _, known := range []bool{false, true} { // that the second has it
				t.Run(fmt.Sprint(status, header, known), func(t *testing.T) { testRefusedToAnother(t, status, header, known) })
			}
		}
	}
}

func testRefusedToAnother(t *testing.T, status int, header []string, known bool) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := random(1<<20, 1)
	d := g.addBlob("none", layer)
	g.addBlob("good", layer)
	path := "/blobs/" + d.String()
	if known {
		s.do(t, http.MethodHead, "/v2/up/good"+path)
	}
	began, joined := make(chan struct{}), make(chan struct{})
	begin, join := sync.OnceFunc(func() { close(began) }), sync.OnceFunc(func() { close(joined) })
	defer join()
	g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if !strings.Contains(r.URL.Path, "/none/") {
			return false
		}
		begin()
		if r.Method == http.MethodGet {
			<-joined
		}
		w.WriteHeader(status)
		return true
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	clients.Go(func() {
		if a := s.do(t, http.MethodGet, "/v2/up/none"+path, header...); a.status < 400 {
			t.Errorf("a repository without the blob: %d, %d bytes", a.status, len(a.body))
		}
	})
	<-began
	clients.Go(func() { // the other one is the fill's by now
		defer join()
		for by := (oci.Repo{}); by != (oci.Repo{Upstream: "up", Name: "good"}); by, _ = s.p.filling(s.p.routes().def, d) {
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				return
			}
		}
	})
	want := layer
	if header != nil {
		want = layer[1000:2000]
	}
	if a := s.do(t, http.MethodGet, "/v2/up/good"+path, header...); a.status/100 != 2 || a.err != nil || !bytes.Equal(a.body, want) {
		t.Errorf("a repository that has the blob: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
}

// TestLongRange reads a range of four transfers' length, as fast as it comes and
// slowly: it is asked for by that many, or one more, and never cell by cell.
func TestLongRange(t *testing.T) {
	const size = 4 * maxRunBytes
	layer := random(size+cell, 71)
	for name, ranged := range map[string]string{"from its start": fmt.Sprintf("bytes=0-%d", size-1), "from within a cell": fmt.Sprintf("bytes=100-%d", size-1)} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			d := g.addBlob("a", layer)
			a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", ranged)
			if a.status != http.StatusPartialContent || a.err != nil || len(a.body) < size-100 {
				t.Fatalf("%d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			if asked := g.take(); len(asked) > 5 {
				t.Errorf("upstream was asked %d times: %q", len(asked), asked)
			}
		})
	}
}
