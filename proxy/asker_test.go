package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// users counts the requests that wait for the default upstream's fill of d.
func (s *server) users(d digest.Digest) int { return s.usersAt("up", d) }

func (s *server) usersAt(up string, d digest.Digest) int {
	s.p.mu.Lock()
	f := s.p.fills[fillKey{up, d}]
	s.p.mu.Unlock()
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refs
}

// arrivedOf counts the bytes that its fill has.
func (s *server) arrivedOf(d digest.Digest) int64 {
	s.p.mu.Lock()
	f := s.p.fills[fillKey{"up", d}]
	s.p.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have.Bytes()
}

// serveAs has every GET of a blob answered by fn, if it likes.
func (g *registry) serveAs(fn func(w http.ResponseWriter, r *http.Request, body []byte) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		return r.Method == http.MethodGet && fn(w, r, body)
	}
}

// TestRightLostSince: what an upstream says of a repository that had a blob, by
// whose right it is being fetched, is told to no client of another, who has it by
// the right of its own; and the one who is refused gets nothing of that.
func TestRightLostSince(t *testing.T) {
	for status, told := range map[int]int{404: 404, 403: 403, 500: 503} {
		for _, header := range [][]string{nil, {"Range", "bytes=1000-1999"}, {"Range", "bytes=1000-"}} {
			for _, entitled := range []bool{false, true} {
				t.Run(fmt.Sprint(status, header, entitled), func(t *testing.T) { lostBeside(t, status, told, header, entitled) })
			}
		}
	}
}

func lostBeside(t *testing.T, status, told int, header []string, entitled bool) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(1<<20, 1)
	d := g.addBlob("none", layer)
	g.addBlob("good", layer)
	s.do(t, "HEAD", "/v2/up/none/blobs/"+d.String())
	if entitled {
		s.do(t, "HEAD", "/v2/up/good/blobs/"+d.String())
	}
	began, release := make(chan struct{}, 10), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	g.serveAs(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if !strings.Contains(r.URL.Path, "/none/") {
			return false
		}
		began <- struct{}{}
		<-release
		w.WriteHeader(status)
		return true
	})
	ask := func(repo string) chan answer {
		got := make(chan answer, 1)
		go func() { got <- s.do(t, "GET", "/v2/up/"+repo+"/blobs/"+d.String(), header...) }()
		return got
	}
	first := ask("none")
	<-began
	second := ask("good")
	waitFor(t, func() bool { return s.users(d) == 2 })
	let()
	if a := <-first; a.status != told || bytes.Contains(a.body, layer[1000:1100]) {
		t.Errorf("the repository that was refused: %d, %d bytes, want %d", a.status, len(a.body), told)
	}
	if a := <-second; a.status/100 != 2 || a.err != nil || !bytes.Contains(layer, a.body) || len(a.body) < 1000 {
		t.Errorf("the repository that has the blob: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
}

// TestLeadIsLostHalfWay: a repository that loses a blob while it comes takes
// nothing from those who read behind it in another.
func TestLeadIsLostHalfWay(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := random(4<<20, 2)
	d := g.addBlob("a", layer)
	g.addBlob("b", layer)
	s.do(t, "HEAD", "/v2/up/b/blobs/"+d.String())
	began, release := make(chan struct{}, 1), make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	g.serveAs(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		switch {
		case strings.Contains(r.URL.Path, "/b/"):
			return false
		case r.Header.Get("Range") != "": // it goes on where it was cut
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:1<<20])
		_ = http.NewResponseController(w).Flush()
		began <- struct{}{}
		<-release
		panic(http.ErrAbortHandler)
	})
	ask := func(repo string) chan answer {
		got := make(chan answer, 1)
		go func() { got <- s.do(t, "GET", "/v2/up/"+repo+"/blobs/"+d.String()) }()
		return got
	}
	first := ask("a")
	<-began
	second := ask("b")
	waitFor(t, func() bool { return s.users(d) == 2 && s.arrivedOf(d) == 1<<20 })
	let()
	if a := <-first; a.err == nil || len(a.body) >= len(layer) {
		t.Errorf("the one that lost it: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	if a := <-second; a.status != 200 || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("the other: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	asked := g.take()
	if got := asked[len(asked)-1]; !strings.HasPrefix(got, "GET blobs 1048576-") {
		t.Errorf("the other's request: %q, want one for the rest", asked)
	}
}

// TestNoReadingByAnothersRight: a client that waits by a right that is yet to be
// proven is asked for by itself where another's right comes first.
func TestNoReadingByAnothersRight(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	d := digest.FromString("x")
	up := s.p.routes().def
	mine, theirs := asker{up, oci.Repo{Upstream: "up", Name: "mine"}}, asker{up, oci.Repo{Upstream: "up", Name: "theirs"}}
	f := &fill{p: s.p, d: d, up: up, size: -1, asking: asking{lead: mine}, runs: map[*run]struct{}{}}
	if !f.mayLocked(mine) || f.mayLocked(theirs) {
		t.Error("before the first answer: only who leads may wait")
	}
	f.lead = theirs // mine was refused
	if f.mayLocked(mine) {
		t.Error("who leads no more may wait")
	}
	f.answeredFor(theirs)
	if err := f.learnSize(10); err != nil {
		t.Fatal(err)
	}
	f.lead = mine // and back again
	if f.mayLocked(mine) || !f.mayLocked(theirs) {
		t.Error("after an answer: only for whom it was may wait")
	}
	if _, err := f.sizeFor(t.Context(), &reader{f: f, who: mine}, false); err != errUnproven { //nolint:errorlint // the very value
		t.Errorf("size: %v", err)
	}
	if n, err := f.sizeFor(t.Context(), &reader{f: f, who: mine}, true); err != nil || n != 10 {
		t.Errorf("size, entitled: %d, %v", n, err)
	}
}
