package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lies are answers to a range of body that tell another size of the blob.
var lies = map[string]func(w http.ResponseWriter, r *http.Request, body []byte){
	"another total": func(w http.ResponseWriter, r *http.Request, body []byte) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(bytes.Clone(body), "more"...)))
	},
	"not so long": func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Range", "bytes */1500")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	},
	"another blob": func(w http.ResponseWriter, _ *http.Request, body []byte) { _, _ = w.Write(body[:1500]) },
}

// TestLieOfOneRange has one client pull a blob by a transfer that is right, while
// upstream tells another size to who asks for a range: once, and always.
func TestLieOfOneRange(t *testing.T) {
	layer := random(6<<20, 71)
	for name, lie := range lies {
		for _, once := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " once ", once), func(t *testing.T) { lieOfOneRange(t, layer, lie, once) })
		}
	}
}

func lieOfOneRange(t *testing.T, layer []byte, lie func(http.ResponseWriter, *http.Request, []byte), once bool) {
	g := newRegistry(t)
	d := g.addBlob("a", layer)
	goOn := make(chan struct{})
	goOnce := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(goOnce)
	var wholes, ranged atomic.Int32
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		switch {
		case r.Header.Get("Range") != "":
			if n := ranged.Add(1); n > 1 && once {
				return false
			}
			lie(w, r, body)
		default:
			wholes.Add(1)
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:cell])
			_ = http.NewResponseController(w).Flush()
			<-goOn
			_, _ = w.Write(body[cell:])
		}
		return true
	}
	s := newServer(t, g, nil)
	path := "/v2/up/a/blobs/" + d.String()
	pulled := make(chan answer, 1)
	go func() { pulled <- s.do(t, http.MethodGet, path) }()
	waitFor(t, func() bool {
		f := fillOf(s, d.String())
		return f != nil && f.knownSize() >= 0 && f.hasUpTo(1)
	})
	a := s.do(t, http.MethodGet, path, "Range", "bytes=5500000-5600000")
	if once && (a.status != http.StatusPartialContent || a.err != nil || !bytes.Equal(a.body, layer[5_500_000:5_600_001])) {
		t.Errorf("the range: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	if !once {
		wantCode(t, "the range", a, http.StatusServiceUnavailable, "UNAVAILABLE")
	}
	goOnce()
	if a := <-pulled; a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("the whole: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
	}
	if wholes.Load() != 1 {
		t.Errorf("the whole was asked for %d times", wholes.Load())
	}
}

// fillOf is the fill of d that is at work; nil: none is.
func fillOf(s *server, d string) *fill {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for k, f := range s.p.fills {
		if k.d.String() == d {
			return f
		}
	}
	return nil
}

// TestLieOfThePumpOnce has upstream tell another size to who asks for the whole, once,
// when a range told the right one.
func TestLieOfThePumpOnce(t *testing.T) {
	g := newRegistry(t)
	layer := random(1<<20, 72)
	d := g.addBlob("a", layer)
	var wholes atomic.Int32
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Header.Get("Range") == "" && wholes.Add(1) == 1 {
			w.Header().Set("Content-Length", "1500")
			_, _ = w.Write(body[:1500])
			return true
		}
		return false
	}
	s := newServer(t, g, nil)
	path := "/v2/up/a/blobs/" + d.String()
	if a := s.do(t, http.MethodGet, path, "Range", "bytes=900000-900009"); a.status != http.StatusPartialContent {
		t.Errorf("the range: %d", a.status)
	}
	if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("the whole: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
	}
}

// TestFirstSizeIsTheLie has the first answer of all tell a wrong size: what comes of
// it ends with an error, and the next begins anew, also after a restart.
func TestFirstSizeIsTheLie(t *testing.T) {
	layer := random(1<<20, 73)
	for _, again := range []bool{false, true} {
		for _, ranged := range []string{"", "bytes=0-99"} {
			t.Run(fmt.Sprint(ranged, " after a restart ", again), func(t *testing.T) {
				g := newRegistry(t)
				d := g.addBlob("a", layer)
				var asked atomic.Int32
				g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
					if asked.Add(1) > 1 {
						return false
					}
					lies["another total"](w, r, body)
					return true
				}
				dir := t.TempDir()
				s := newServerAt(t, dir, g, nil, nil)
				path := "/v2/up/a/blobs/" + d.String()
				if a := s.do(t, http.MethodGet, path, "Range", "bytes=900000-900009"); a.status != http.StatusPartialContent {
					t.Errorf("believed first: %d", a.status)
				}
				if again {
					s.stop()
					s = newServerAt(t, dir, g, nil, nil)
				}
				get := func() answer {
					if ranged == "" {
						return s.do(t, http.MethodGet, path)
					}
					return s.do(t, http.MethodGet, path, "Range", ranged)
				}
				wantCode(t, "contradicted", get(), http.StatusBadGateway, "UNAVAILABLE")
				waitFor(t, func() bool { return fillOf(s, d.String()) == nil })
				want := layer
				if ranged != "" {
					want = layer[:100]
				}
				if a := get(); a.status/100 != 2 || a.err != nil || !bytes.Equal(a.body, want) {
					t.Errorf("anew: %d, %d of %d bytes, %v", a.status, len(a.body), len(want), a.err)
				}
			})
		}
	}
}

// TestSizeVotes holds how many answers in a row give up a size that others told.
func TestSizeVotes(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	for told, want := range map[int]int{1: 2, 3: 4, 100: mostTold + 1} {
		d := g.addBlob("a", random(told, 1))
		f := &fill{p: s.p, d: d, up: s.p.routes().def, size: -1, runs: map[*run]struct{}{}}
		for range told {
			if err := f.learnSize(10); err != nil {
				t.Fatal(err)
			}
		}
		for n := 1; n <= want; n++ {
			if err := f.learnSize(11); resized(err) != (n < want) {
				t.Errorf("told %d times: contradiction %d: %v", told, n, err)
			}
		}
		f.pump = &pump{f: f, heard: true}
		if err := f.learnSize(11); !resized(err) {
			t.Errorf("with a pump: %v", err)
		}
		if err := f.pump.learnSize(10); err != nil || f.said.against != 0 {
			t.Errorf("told again: %v, %+v", err, f.said)
		}
	}
}
