package proxy

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// gated is an upstream whose answers about tags wait, once it is shut.
type gated struct {
	Registry
	shut       atomic.Bool
	heads      atomic.Int32
	head, get  chan struct{} // nil: answers at once
	err        error         // answers HEAD, when shut
	boundedGet atomic.Bool
}

func (g *gated) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	if g.shut.Load() {
		g.heads.Add(1)
		if err := hold(ctx, g.head); err != nil {
			return v1.Descriptor{}, err
		}
		if g.err != nil {
			return v1.Descriptor{}, g.err
		}
	}
	return g.Registry.HeadManifest(ctx, repo, ref)
}

func (g *gated) Manifest(ctx context.Context, repo string, ref oci.Reference) (*upstream.Manifest, error) {
	at, ok := ctx.Deadline()
	g.boundedGet.Store(ok && time.Until(at) <= fetchTime)
	if g.shut.Load() {
		if err := hold(ctx, g.get); err != nil {
			return nil, err
		}
	}
	return g.Registry.Manifest(ctx, repo, ref)
}

func hold(ctx context.Context, gate chan struct{}) error {
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const tagPath = "/v2/up/a/manifests/v1"

// newGated is a proxy that knows a tag, has to ask for it each time and waits
// next to no time for that.
func newGated(t *testing.T, up *gated, change func(*Upstream)) (g *registry, s *server, body string) {
	t.Helper()
	g = newRegistry(t)
	s = newServer(t, g, func(o *Options) {
		u := o.Upstreams[0]
		up.Registry, u.Registry = u.Registry, up
		u.TagTTL, u.TagTimeout = 0, time.Millisecond
		if change != nil {
			change(u)
		}
	})
	body = image(oci.EmptyDigest, digest.FromString("1"), 1)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	if a := s.do(t, http.MethodGet, tagPath); a.status != http.StatusOK {
		t.Fatalf("first: status %d", a.status)
	}
	return g, s, body
}

func (s *server) tagMeans(t *testing.T) digest.Digest {
	t.Helper()
	row, _, err := s.p.knownTag(t.Context(), oci.Repo{Upstream: "up", Name: "a"}, "v1")
	if err != nil {
		t.Fatal(err)
	}
	return row.Digest
}

// TestLateAnswerCounts holds that no caller waits longer than TagTimeout for a
// moved tag, in whichever of the two requests the time goes, and that the
// answer nobody waited for moves the tag all the same.
func TestLateAnswerCounts(t *testing.T) {
	for _, tt := range []struct{ method, slow string }{
		{"GET", "HEAD"}, {"HEAD", "HEAD"}, {"GET", "GET"},
	} {
		t.Run(tt.method+" with a slow "+tt.slow, func(t *testing.T) {
			gate := make(chan struct{})
			up := &gated{}
			if tt.slow == "HEAD" {
				up.head = gate
			} else {
				up.get = gate
			}
			g, s, body := newGated(t, up, nil)
			old := digest.FromString(body)
			moved := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, digest.FromString("2"), 1))
			up.shut.Store(true)
			for range 5 {
				a := s.do(t, tt.method, tagPath)
				if a.status != 200 || a.header.Get("Docker-Content-Digest") != old.String() || !strings.HasPrefix(a.header.Get("Warning"), `299 - "stale: `) {
					t.Fatalf("meanwhile: status %d, %s, Warning %q", a.status, a.header.Get("Docker-Content-Digest"), a.header.Get("Warning"))
				}
			}
			if n := up.heads.Load(); n > 1 {
				t.Errorf("%d checks at a time, want one", n)
			}
			if silent, _ := s.p.silent.silent("up", time.Now()); silent {
				t.Error("a slow upstream is held to be silent")
			}
			close(gate)
			waitFor(t, func() bool { return s.tagMeans(t) == moved })
			if !up.boundedGet.Load() {
				t.Error("the manifest may take for ever")
			}
		})
	}
}

// TestCheckRefused holds what a known tag becomes when its check is refused.
func TestCheckRefused(t *testing.T) {
	for _, tt := range []struct {
		name        string
		upstream    int
		credentials bool
		status      int
		silent      bool
	}{
		{"denied to nobody in particular", 401, false, 403, false},
		{"forbidden to nobody in particular", 403, false, 403, false},
		{"denied to us", 401, true, 200, false},
		{"forbidden to us", 403, true, 200, false},
		{"gone", 404, true, 404, false},
		{"in trouble", 500, false, 200, true},
		{"throttled", 429, false, 200, true},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				up := &gated{err: &upstream.StatusError{Upstream: "up", Op: "manifest", Status: tt.upstream}}
				_, s, _ := newGated(t, up, func(u *Upstream) { u.Credentials, u.TagTimeout = tt.credentials, time.Minute })
				up.shut.Store(true)
				a := s.do(t, method, tagPath)
				if stale := a.header.Get("Warning") != ""; a.status != tt.status || stale != (tt.status == 200) {
					t.Errorf("status %d, Warning %q; want %d", a.status, a.header.Get("Warning"), tt.status)
				}
				if got, _ := s.p.silent.silent("up", time.Now()); got != tt.silent {
					t.Errorf("left alone: %t, want %t", got, tt.silent)
				}
			})
		}
	}
}

// TestLateAnswerYields holds that a late answer about what a tag was does not
// undo what it has become meanwhile.
func TestLateAnswerYields(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"unmoved", nil},
		{"gone", &upstream.StatusError{Upstream: "up", Op: "manifest", Status: http.StatusNotFound}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := &gated{head: make(chan struct{}), err: tt.err}
			g, s, _ := newGated(t, up, nil)
			repo := oci.Repo{Upstream: "up", Name: "a"}
			was, _, err := s.p.knownTag(t.Context(), repo, "v1")
			if err != nil {
				t.Fatal(err)
			}
			up.shut.Store(true)
			s.do(t, http.MethodHead, tagPath)
			newer := g.addManifest("a", "v2", v1.MediaTypeImageManifest, image(oci.EmptyDigest, digest.FromString("2"), 1))
			s.do(t, http.MethodGet, "/v2/up/a/manifests/v2")
			if err := s.store.Update(t.Context(), func(tx storage.Tx) error {
				return tx.PutTag(storage.TagRow{Repo: repo, Tag: "v1", Digest: newer, Checked: was.Checked})
			}); err != nil {
				t.Fatal(err)
			}
			close(up.head)
			waitFor(t, func() bool {
				s.p.manifests.mu.Lock()
				defer s.p.manifests.mu.Unlock()
				return len(s.p.manifests.now) == 0
			})
			if got := s.tagMeans(t); got != newer {
				t.Errorf("the tag means %s, want %s", got, newer)
			}
		})
	}
}

// TestSilenceCostsNobodyASecondWait holds that once an upstream failed a check,
// no client waits for another until one that nobody waited for was answered.
func TestSilenceCostsNobodyASecondWait(t *testing.T) {
	now := time.Now().Add(time.Hour)
	clock := func() time.Time { return now }
	gate := make(chan struct{})
	up := &gated{head: gate}
	_, s, _ := newGated(t, up, nil)
	s.p.now = clock
	s.p.silent.set("up", now.Add(holdOff), nil)
	up.shut.Store(true)
	stale := func(when string) {
		t.Helper()
		if a := s.do(t, http.MethodGet, tagPath); a.status != 200 || a.header.Get("Warning") == "" {
			t.Fatalf("%s: status %d, Warning %q", when, a.status, a.header.Get("Warning"))
		}
	}
	stale("while it is left alone")
	if n := up.heads.Load(); n != 0 {
		t.Errorf("asked %d times while it was to be left alone", n)
	}
	now = now.Add(holdOff)
	s.p.opt.Upstreams[0].TagTimeout = time.Hour
	stale("while it is being found out") // or it would wait for the gate
	waitFor(t, func() bool { return up.heads.Load() == 1 })
	close(gate)
	waitFor(t, func() bool { silent, _ := s.p.silent.silent("up", now); return !silent })
	if a := s.do(t, http.MethodGet, tagPath); a.status != 200 || a.header.Get("Warning") != "" {
		t.Errorf("once it is back: status %d, Warning %q", a.status, a.header.Get("Warning"))
	}
}
