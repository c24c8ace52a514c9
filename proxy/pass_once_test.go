package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// newFullServer is a proxy whose store has room for no more than so many bytes: what
// is pushed to it takes the rest.
func newFullServer(t *testing.T, g *registry, room int, change func(*Options)) *server {
	t.Helper()
	const limit = 1 << 20
	s := newServerAt(t, t.TempDir(), g, func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
		if change != nil {
			change(o)
		}
	}, func(o *storage.Options) { o.MaxBytes = limit })
	s.pushBlob(t, "local/a", random(limit-room, 99))
	if err := s.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPassedOnIsAskedForOnce: what one client asks for of a blob that a store full of
// hosted content has no room for costs one upstream request, for just that. Only a
// range that counts from the end has the size asked for before.
func TestPassedOnIsAskedForOnce(t *testing.T) {
	const size = 3 << 20
	layer := random(size, 61)
	for _, tt := range []struct {
		name, ranges string
		room         int // in the store
		status       int
		want         [][2]int // what is sent
		asked        []string
	}{
		{"whole", "", 1000, 200, [][2]int{{0, size}}, []string{"GET blobs"}},
		{"whole, too large for the room", "", 600_000, 200, [][2]int{{0, size}}, []string{"GET blobs"}},
		{"from the first byte", "bytes=0-", 1000, 206, [][2]int{{0, size}}, []string{"GET blobs"}},
		{"all of it", fmt.Sprint("bytes=0-", size-1), 1000, 206, [][2]int{{0, size}}, []string{fmt.Sprint("GET blobs 0-", size-1)}},
		{"more than all of it", fmt.Sprint("bytes=0-", 9*size), 1000, 206, [][2]int{{0, size}}, []string{fmt.Sprint("GET blobs 0-", 9*size)}},
		{"a little", "bytes=1000-1999", 1000, 206, [][2]int{{1000, 2000}}, []string{"GET blobs 1000-1999"}},
		{"a range too large for the room", "bytes=1000-1999999", 600_000, 206, [][2]int{{1000, 2_000_000}}, []string{"GET blobs 1000-1999999"}},
		{"a range there is room for", "bytes=1000-1999", 600_000, 206, [][2]int{{1000, 2000}}, []string{fmt.Sprint("GET blobs 0-", cell-1)}},
		{"the rest", "bytes=3000000-", 1000, 206, [][2]int{{3_000_000, size}}, []string{"GET blobs 3000000-"}},
		{"the end", "bytes=-100", 1000, 206, [][2]int{{size - 100, size}}, []string{"HEAD blobs", fmt.Sprintf("GET blobs %d-%d", size-100, size-1)}},
		{"two parts", "bytes=100-199,5000-5099", 1000, 206, [][2]int{{100, 200}, {5000, 5100}}, []string{"GET blobs 100-199", "GET blobs 5000-5099"}},
		{"one of two parts", "bytes=9000000-9000009,5000-5099", 1000, 206, [][2]int{{5000, 5100}}, []string{"GET blobs 9000000-9000009", "GET blobs 5000-5099"}},
		{"beyond the end", "bytes=9000000-", 1000, 416, nil, []string{"GET blobs 9000000-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRegistry(t)
			s := newFullServer(t, g, tt.room, nil)
			path := "/v2/up/a/blobs/" + g.addBlob("a", layer).String()
			for range 2 { // the right is a row by then, or about to be one
				a := s.do(t, http.MethodGet, path, "Range", tt.ranges)
				if a.status != tt.status || a.err != nil {
					t.Errorf("%d, %v", a.status, a.err)
				}
				total := 0
				for _, r := range tt.want {
					total += r[1] - r[0]
					if part := layer[r[0]:r[1]]; !bytes.Contains(a.body, part) || len(tt.want) == 1 && len(a.body) != len(part) {
						t.Errorf("%d bytes, and not the %d from %d on", len(a.body), len(part), r[0])
					}
				}
				if got := a.header.Get("Content-Range"); tt.status == 416 && got != fmt.Sprint("bytes */", size) {
					t.Errorf("Content-Range %q", got)
				}
				if diff := cmp.Diff(tt.asked, g.take()); diff != "" {
					t.Errorf("upstream requests (-want +got):\n%s", diff)
				}
				if tt.room > cell && total < cell { // it is kept
					break
				}
				const errorBody = 100 // of 416
				if sent := g.takeSent(); sent > int64(total)+errorBody {
					t.Errorf("upstream sent %d bytes for %d", sent, total)
				}
			}
		})
	}
}

// takeSent gives how many bytes of blobs were sent since the last time.
func (g *registry) takeSent() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.sent
	g.sent = 0
	return n
}

// TestPassedOnToWhoMay: that there is no room opens no repository to those of another,
// which does not have the blob: neither bytes nor the size.
func TestPassedOnToWhoMay(t *testing.T) {
	g := newRegistry(t)
	s := newFullServer(t, g, 1000, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := random(2<<20, 62)
	d := g.addBlob("private", layer)
	began, goOn := make(chan struct{}), make(chan struct{})
	g.serveAs(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.Contains(r.URL.Path, "/private/") {
			close(began)
			<-goOn
		}
		return false
	})
	strangers := func(when string) {
		t.Helper()
		for _, r := range []string{"", "bytes=0-", "bytes=0-9", "bytes=-5", "bytes=9000000-", "bytes=0-9,20-29"} {
			a := s.do(t, http.MethodGet, "/v2/up/other/blobs/"+d.String(), "Range", r)
			if a.status != http.StatusNotFound || a.header.Get("Content-Range") != "" || bytes.Contains(a.body, layer[:8]) {
				t.Errorf("%s, %q: %d, Content-Range %q", when, r, a.status, a.header.Get("Content-Range"))
			}
		}
		g.take()
	}
	var work sync.WaitGroup
	work.Go(func() {
		if a := s.do(t, http.MethodGet, "/v2/up/private/blobs/"+d.String()); a.status != http.StatusOK || !bytes.Equal(a.body, layer) {
			t.Errorf("who may: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	})
	<-began
	strangers("on its way")
	close(goOn)
	work.Wait()
	g.serveAs(func(http.ResponseWriter, *http.Request, []byte) bool { return false })
	strangers("afterwards")

	g.addBlob("fork", layer) // the same bytes: its own answer is the proof, and there is one
	if a := s.do(t, http.MethodGet, "/v2/up/fork/blobs/"+d.String(), "Range", "bytes=5-9"); a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[5:10]) {
		t.Errorf("fork: %d, %d bytes", a.status, len(a.body))
	}
	if diff := cmp.Diff([]string{"GET blobs 5-9"}, g.take()); diff != "" {
		t.Errorf("upstream requests (-want +got):\n%s", diff)
	}
}

// TestPassedOnToMany: of many at once who want a blob that there is no room for each
// has it by one request at most.
func TestPassedOnToMany(t *testing.T) {
	const clients = 16
	g := newRegistry(t)
	in := &arrivals{all: make(chan struct{})}
	s := newFullServer(t, g, 1000, func(o *Options) {
		o.Access = in
		o.Upstreams[0].Registry = patientClient(t, g)
	})
	layer := random(2<<20, 63)
	d := g.addBlob("a", layer)
	g.take()
	in.seen.Store(0)
	in.want.Store(clients)
	g.serveAs(func(http.ResponseWriter, *http.Request, []byte) bool { <-in.all; return false })
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String()); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	all.Wait()
	asked := g.take()
	for _, a := range asked {
		if a != "GET blobs" || len(asked) > clients {
			t.Fatalf("%d clients: upstream was asked %q", clients, asked)
		}
	}
}

// TestPassedOnBesideARange has a client want all of a blob while a range of it, for
// which there is room, is on its way for another.
func TestPassedOnBesideARange(t *testing.T) {
	g := newRegistry(t)
	s := newFullServer(t, g, 600_000, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	layer := random(3<<20, 66)
	d := g.addBlob("a", layer)
	path := "/v2/up/a/blobs/" + d.String()
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.serveAs(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasPrefix(r.Header.Get("Range"), "bytes=1835008-") {
			once.Do(func() { close(began) })
			<-goOn
		}
		return false
	})
	var other sync.WaitGroup
	other.Go(func() {
		a := s.do(t, http.MethodGet, path, "Range", "bytes=2000000-2000999")
		if a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[2_000_000:2_001_000]) {
			t.Errorf("the range: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	})
	<-began
	if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("all of it: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	close(goOn)
	other.Wait()
}

// TestPassedOnWithoutLength: upstreams that do not tell a size are passed on, too.
func TestPassedOnWithoutLength(t *testing.T) {
	layer := random(1_500_000, 64)
	for name, serve := range unmeasured {
		for _, ranges := range []string{"", "bytes=0-", "bytes=300000-310000", "bytes=1400000-"} {
			t.Run(name+" "+ranges, func(t *testing.T) {
				g := newRegistry(t)
				s := newFullServer(t, g, 1000, nil)
				d := g.addBlob("a", layer)
				g.serveAs(func(w http.ResponseWriter, r *http.Request, body []byte) bool { serve(w, r, body); return true })
				a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", ranges)
				if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) { // nothing to count a range from
					t.Errorf("%d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
				}
			})
		}
	}
}

// TestPassedOnIsVerified: nobody has all of what is not what its digest says.
func TestPassedOnIsVerified(t *testing.T) {
	layer := random(2<<20, 65)
	d := digest.FromBytes(layer)
	wrong := bytes.Clone(layer)
	wrong[5] ^= 1
	for _, ranges := range []string{"", "bytes=0-", fmt.Sprint("bytes=0-", len(layer)-1)} {
		g := newRegistry(t)
		s := newFullServer(t, g, 1000, nil)
		g.mu.Lock()
		g.blobs["a@"+d.String()] = wrong
		g.mu.Unlock()
		if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), "Range", ranges); a.err == nil || len(a.body) > len(layer)-holdBack {
			t.Errorf("%q: %d, %d of %d bytes, %v", ranges, a.status, len(a.body), len(layer), a.err)
		}
	}
}
