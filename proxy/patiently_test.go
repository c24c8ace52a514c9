package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
)

// spent is a registry of which each so manyth request is more than our budget
// allows.
type spent struct {
	Registry
	each  int
	mu    sync.Mutex
	turn  int
	times int
}

func (s *spent) pay() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn++; s.turn%s.each == 0 {
		s.times++
		return &upstream.HeldError{Upstream: "up", Throttled: true, RetryAfter: time.Millisecond, Err: upstream.ErrBudget}
	}
	return nil
}

func (s *spent) Manifest(ctx context.Context, repo string, ref oci.Reference) (*upstream.Manifest, error) {
	if err := s.pay(); err != nil {
		return nil, err
	}
	return s.Registry.Manifest(ctx, repo, ref)
}

func (s *spent) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	if err := s.pay(); err != nil {
		return v1.Descriptor{}, err
	}
	return s.Registry.HeadManifest(ctx, repo, ref)
}

func (s *spent) Blob(ctx context.Context, repo string, d digest.Digest, r oci.Range) (*upstream.Body, error) {
	if err := s.pay(); err != nil {
		return nil, err
	}
	return s.Registry.Blob(ctx, repo, d, r)
}

// TestPullWaitsForOurBudget holds that what nobody waits for with a container to
// start waits for the requests that this proxy may send, however these fall: a tag
// that is known, and has moved or not, may take two, to look and to fetch.
func TestPullWaitsForOurBudget(t *testing.T) {
	for _, each := range []int{2, 3} {
		t.Run(fmt.Sprintf("each %d", each), func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			root, _, _ := multi(g)
			up := s.p.opt.Upstreams[0]
			lean := &spent{Registry: up.Registry, each: each}
			up.Registry, up.TagTTL = lean, 0
			pull := func(blobs int) {
				t.Helper()
				got, err := s.p.Pull(t.Context(), app, tag1, oci.PullOptions{Referrers: true})
				if err != nil || got.Root.Digest != root || got.Unchecked != "" || len(got.Blobs) != blobs {
					t.Fatalf("%v, %s, unchecked %q, %d blobs", err, got.Root.Digest, got.Unchecked, len(got.Blobs))
				}
			}
			for range 3 {
				pull(5)
			}
			for n := range 4 { // it moves, while the turn is another each time
				layer := random(100, byte(100+n))
				root = g.addManifest(app.Name, tag1.Tag, v1.MediaTypeImageManifest, image(oci.EmptyDigest, g.addBlob(app.Name, layer), len(layer)))
				g.addBlob(app.Name, []byte("{}"))
				pull(2)
				_ = lean.pay() // so that the turns fall otherwise
			}
			if lean.times < 10 {
				t.Errorf("the budget was spent %d times", lean.times)
			}
		})
	}
}

// TestPatienceEnds: a budget that is spent for ever is told in the end.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		err := patiently(t.Context(), func() error {
			tries++
			return &upstream.HeldError{Upstream: "up", Throttled: true, RetryAfter: time.Minute, Err: upstream.ErrBudget}
		})
		if took := time.Since(began); !errors.Is(err, upstream.ErrBudget) || took != budgetPatience || tries != 61 {
			t.Errorf("%v after %v and %d tries", err, took, tries)
		}
	})
}

// TestSpentBudgetIsOurs: a client is not told that the upstream wants less.
func TestSpentBudgetIsOurs(t *testing.T) {
	e := oci.AsError(edge("blob x", &upstream.HeldError{Throttled: true, RetryAfter: time.Minute, Err: upstream.ErrBudget}))
	if e.HTTPStatus() != http.StatusTooManyRequests || e.RetryAfter != time.Minute || !strings.Contains(e.Message, "requests_per_minute") {
		t.Errorf("%d %s, Retry-After %v", e.HTTPStatus(), e.Message, e.RetryAfter)
	}
}

// TestTagsOfHosted: those of a hosted repository are here, and what nobody has
// pushed yet has none.
func TestTagsOfHosted(t *testing.T) {
	s := newHost(t, Hosting{}, nil)
	if got, err := s.p.TagsOf(t.Context(), oci.Repo{Upstream: "local", Name: "app"}); len(got) > 0 || err != nil {
		t.Errorf("before a push: %v, %v", got, err)
	}
	s.pushImage(t, "local/app", "v1", random(100, 1))
	s.pushImage(t, "local/app", "v2", random(100, 2))
	got, err := s.p.TagsOf(t.Context(), oci.Repo{Upstream: "local", Name: "app"})
	if diff := cmp.Diff([]string{"v1", "v2"}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

// TestPullOffline holds that an image with its referrers is found whole in the
// store of an upstream that is not to be asked.
func TestPullOffline(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	root, _, _ := multi(g)
	o := oci.PullOptions{Referrers: true}
	if _, err := s.p.Pull(t.Context(), app, tag1, o); err != nil {
		t.Fatal(err)
	}
	asked := goOffline(t, g, s)
	got, err := s.p.Pull(t.Context(), app, tag1, o)
	if err != nil || got.Root.Digest != root || len(got.Blobs) != 5 {
		t.Errorf("%v, %d blobs", err, len(got.Blobs))
	}
	if n := asked(); n > 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}
