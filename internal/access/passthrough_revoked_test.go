package access

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// revoking are upstreams that take nobody's credentials any more once gone is set.
type revoking struct {
	*fakeUpstreams
	gone atomic.Bool
}

func (r *revoking) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	s, err := r.fakeUpstreams.Login(ctx, up, s, user, password, repo)
	if err == nil && r.gone.Load() {
		return nil, ErrRefused
	}
	return s, err
}

// TestRevokedStaysOut holds that what an upstream said last counts while it is
// down: credentials that it refused are not let in by what it said before.
func TestRevokedStaysOut(t *testing.T) {
	b, f := newPassBench(t)
	r := &revoking{fakeUpstreams: f}
	b.a.pass.ask = r
	get := func(repo string) int { return b.get(t, "/v2/"+repo+"/manifests/1", "alice", "wonder").StatusCode }
	for _, repo := range []string{"a.io/x", "a.io/y", "b.io/x"} {
		if got := get(repo); got != http.StatusOK {
			t.Fatalf("alice pulls %s: %d", repo, got)
		}
	}
	r.gone.Store(true)
	b.clock.advance(sessionLife + time.Second)
	if got := get("a.io/x"); got != http.StatusUnauthorized {
		t.Errorf("after she was revoked: %d", got)
	}
	b.clock.advance(mayNotTTL + time.Second)
	f.set(true, false)
	for repo, want := range map[string]bool{"a.io/x": false, "a.io/y": false, "b.io/x": true} {
		if got := get(repo); (got == http.StatusOK) != want {
			t.Errorf("%s, its upstream down: %d, want her let in: %t", repo, got, want)
		}
	}
}
