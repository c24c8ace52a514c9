package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestLastClientLeaves has the only client of a transfer go away in the middle:
// by policy the transfer goes on without it, or ends, and is resumed by the next.
func TestLastClientLeaves(t *testing.T) {
	for name, stop := range map[string]bool{"finish": false, "stop": true} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, func(o *Options) { o.StopOnDisconnect = stop })
			layer := random(4<<20, 77)
			d := g.addBlob("a", layer)
			path := "/v2/up/a/blobs/" + d.String()
			left, ended := make(chan struct{}), make(chan struct{})
			g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				if r.Header.Get("Range") != "" { // the next one's
					return false
				}
				w.Header().Set("Content-Length", "4194304")
				_, _ = w.Write(body[:2<<20])
				_ = http.NewResponseController(w).Flush()
				<-left
				if stop {
					<-r.Context().Done()
					close(ended)
				} else {
					_, _ = w.Write(body[2<<20:])
				}
				return true
			}
			resp, _ := s.pulling(t, path, 1<<20)
			resp.Body.Close()
			close(left)
			if stop {
				<-ended
			} else {
				waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), d); return err == nil })
			}
			a := s.do(t, http.MethodGet, path)
			if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("the next client: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			asked := g.take()
			if want := map[bool]int{false: 1, true: 2}[stop]; len(asked) != want {
				t.Errorf("upstream was asked for %q", asked)
			}
			if stop && (len(asked) < 2 || !strings.HasPrefix(asked[1], "GET blobs ") || strings.HasPrefix(asked[1], "GET blobs 0-")) {
				t.Errorf("the rest was asked for by %q", asked)
			}
		})
	}
}

// TestOneOfTwoLeaves has the client that began a transfer go away in the middle,
// where transfers end with their last client: the other one has all of it, and
// the upstream is asked once.
func TestOneOfTwoLeaves(t *testing.T) {
	const size, first = 4 << 20, 2 << 20
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) {
		o.StopOnDisconnect = true
		o.Upstreams[0].Registry = patientClient(t, g)
	})
	layer := random(size, 78)
	d := g.addBlob("a", layer)
	left := make(chan struct{})
	end := sync.OnceFunc(func() { close(left) })
	defer end()
	g.serve = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(body[:first])
		_ = http.NewResponseController(w).Flush()
		<-left
		_, _ = w.Write(body[first:])
		return true
	}
	var bodies [2]io.ReadCloser
	for i := range bodies {
		resp, _ := s.pulling(t, "/v2/up/a/blobs/"+d.String(), 1<<20)
		defer resp.Body.Close()
		bodies[i] = resp.Body
	}
	bodies[0].Close()
	waitFor(t, func() bool { return s.p.Active() == 1 })
	end()
	rest, err := io.ReadAll(bodies[1])
	if err != nil || !bytes.Equal(rest, layer[1<<20:]) {
		t.Errorf("the other client: %d more bytes, %v", len(rest), err)
	}
	if asked := g.take(); len(asked) != 1 {
		t.Errorf("the upstream was asked for %q", asked)
	}
}
