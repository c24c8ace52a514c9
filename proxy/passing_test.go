package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// heirs is how many wait for all of d.
func (s *server) heirs(d digest.Digest) int {
	s.p.mu.Lock()
	f := s.p.fills[fillKey{"up", d}]
	s.p.mu.Unlock()
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.heirs)
}

// TestPassingIsShared has many clients want a blob at once that there is no room for:
// upstream sends it once, and nobody has all of it where it is wrong, or breaks off.
func TestPassingIsShared(t *testing.T) {
	const clients = 16
	layer := random(4<<20, 71)
	wrong := bytes.Clone(layer)
	wrong[len(wrong)/2] ^= 1
	for _, tt := range []struct {
		name  string
		sends []byte
		good  bool
	}{{"right", layer, true}, {"wrong", wrong, false}, {"broken off", layer[:3<<20], false}} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRegistry(t)
			s := newFullServer(t, g, 1000, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
			s.p.passGrace = time.Hour // however busy the machine is
			d := g.addBlob("a", layer)
			goOn := make(chan struct{})
			g.serveAs(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.Header.Get("Range") != "" {
					http.NotFound(w, r) // no more of what broke off
					return true
				}
				<-goOn
				w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
				_, _ = w.Write(tt.sends)
				return true
			})
			var mu sync.Mutex
			how := map[string]int{}
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String())
					if whole := a.err == nil && bytes.Equal(a.body, layer); a.status != http.StatusOK || whole != tt.good || !tt.good && len(a.body) > len(layer)-holdBack {
						t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
					}
					mu.Lock()
					defer mu.Unlock()
					how[a.header.Get("X-Cache")]++
				})
			}
			waitFor(t, func() bool { return s.heirs(d) == clients })
			close(goOn)
			all.Wait()
			if diff := cmp.Diff(map[string]int{"miss": 1, "follow": clients - 1}, how); diff != "" {
				t.Errorf("X-Cache (-want +got):\n%s", diff)
			}
			if asked := g.take(); asked[0] != "GET blobs" || tt.name != "broken off" && len(asked) > 1 {
				t.Errorf("upstream was asked %q", asked)
			}
			waitFor(t, func() bool { return s.p.passings.Load() == 0 })
		})
	}
}

// passed begins a transfer of d and gives n places in it.
func (s *server) passed(t *testing.T, d digest.Digest, n int) []*passReader {
	t.Helper()
	who := asker{s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}}
	ctx, cancel := context.WithCancelCause(t.Context())
	body, err := who.up.Registry.Blob(ctx, "a", d, oci.Range{Off: 0, End: -1})
	if err != nil {
		t.Fatal(err)
	}
	all := (&fill{p: s.p, d: d}).share(ctx, cancel, who, body, n)
	if len(all) != n {
		_ = body.Close()
		cancel(nil)
	}
	for _, r := range all {
		t.Cleanup(func() { _ = r.Close() })
	}
	return all
}

// TestPassingGoesWithout those who do not read: they go on by themselves, where they are.
func TestPassingGoesWithout(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	blob := random(8<<20, 72)
	all := s.passed(t, g.addBlob("a", blob), 3)
	slow, slowest, fast := all[0], all[1], all[2]
	begin := make([]byte, 100_000)
	if _, err := io.ReadFull(slow, begin); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		who  string
		r    *passReader
		want []byte
	}{{"who reads", fast, blob}, {"who stopped", slow, blob[len(begin):]}, {"who did not begin", slowest, blob}} {
		if got, err := io.ReadAll(r.r); err != nil || !bytes.Equal(got, r.want) {
			t.Errorf("%s: %d of %d bytes, %v", r.who, len(got), len(r.want), err)
		}
	}
	if !bytes.Equal(begin, blob[:len(begin)]) {
		t.Error("who stopped had other bytes before")
	}
	if asked := g.take(); len(asked) != 3 || asked[0] != "GET blobs" || !strings.HasSuffix(asked[1], "-") || asked[2] != "GET blobs" {
		t.Errorf("upstream was asked %q, want all, the rest for one, and all for another", asked)
	}
	if len(slow.in)+len(slowest.in) > 0 {
		t.Error("what they did not read is kept for them")
	}
}

// TestPassingReaders read at their own pace, and each has the same bytes.
func TestPassingReaders(t *testing.T) {
	for _, size := range []int{0, 1, passChunk, passChunks * passChunk, 5<<20 + 17} {
		g := newRegistry(t)
		s := newServer(t, g, nil)
		blob := random(size, 73)
		var all sync.WaitGroup
		for i, r := range s.passed(t, g.addBlob("a", blob), 8) {
			all.Go(func() {
				var got bytes.Buffer
				_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, 1000+20_000*i))
				if err != nil || !bytes.Equal(got.Bytes(), blob) {
					t.Errorf("reader %d: %d of %d bytes, %v", i, got.Len(), size, err)
				}
				_ = r.Close()
				_ = r.Close()
			})
		}
		all.Wait()
		if n := s.p.passings.Load(); n != 0 {
			t.Errorf("%d bytes: %d are counted still", size, n)
		}
	}
}

// TestPassingEnds with the last who reads it, also where one who was too slow is left.
func TestPassingEnds(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Upstreams[0].Registry = patientClient(t, g) })
	gone := make(chan struct{})
	g.serveAs(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		_, _ = w.Write(body[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
		return true
	})
	all := s.passed(t, g.addBlob("a", random(4<<20, 74)), 2)
	slow, other := all[0], all[1]
	if _, err := io.ReadFull(slow, make([]byte, 1000)); err != nil { // no more is about to come
		t.Fatal(err)
	}
	slow.x.drop(slow)
	_ = other.Close()
	<-gone
	if s.p.passings.Load() != 1 {
		t.Error("it is forgotten while somebody has what it brought")
	}
	_ = slow.Close()
	if s.p.passings.Load() != 0 {
		t.Error("it is not forgotten")
	}
}

// TestPassingIsReadByWhoReads: one who was dropped, and has nothing left to read, is none
// whom the others are too slow for; and with the last who reads the transfer ends.
func TestPassingIsReadByWhoReads(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	ended := 0
	x := &passing{p: s.p, cancel: func(error) { ended++ }, began: time.Now(), places: 3, readers: map[*passReader]struct{}{}}
	all := make([]*passReader, 3)
	for i := range all {
		life, end := context.WithCancel(t.Context())
		all[i] = &passReader{x: x, in: make(chan []byte, 1), ctx: life, end: end, waited: 1000 * time.Hour}
		x.readers[all[i]] = struct{}{}
	}
	slow, slower, fast := all[0], all[1], all[2]
	slow.in <- []byte("a")
	slower.in <- []byte("a")
	if x.sendSlow(t.Context(), slow, []byte("b"), all); !slow.dropped {
		t.Fatal("one whom another waits for is not dropped")
	}
	_ = fast.Close()
	took := make(chan []byte, 1)
	go func() { took <- <-slower.in }()
	x.sendSlow(t.Context(), slower, []byte("b"), all)
	if got := <-took; slower.dropped || string(got) != "a" || string(<-slower.in) != "b" {
		t.Errorf("the only one who reads took %q, dropped: %t", got, slower.dropped)
	}
	if ended != 0 {
		t.Error("it ended while somebody read")
	}
	if x.drop(slower); ended != 1 {
		t.Errorf("nobody reads it, and it was ended %d times, want once", ended)
	}
}

// TestPassingsAreBounded: beyond so many each client has its own transfer, as each has
// that an upstream is asked for in its own name.
func TestPassingsAreBounded(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	d := g.addBlob("a", random(1000, 75))
	up := s.p.routes().def
	up.AsCaller = func(*http.Request, oci.Repo) Registry { return up.Registry }
	if s.passed(t, d, 2) != nil {
		t.Error("what is asked for in a caller's own name is shared")
	}
	up.AsCaller = nil
	var open []*passReader
	for range maxPassings {
		open = append(open, s.passed(t, d, 2)...)
	}
	if len(open) != 2*maxPassings || s.passed(t, d, 2) != nil {
		t.Errorf("%d places, and another", len(open))
	}
	_, _ = open[0].Close(), open[1].Close()
	if s.passed(t, d, 2) == nil {
		t.Error("none is shared once there is room again")
	}
}
