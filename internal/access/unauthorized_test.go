package access

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// curtUpstreams have a token service that answers in one way to a wrong password
// and to who may have nothing of what is asked for.
type curtUpstreams struct{ *fakeUpstreams }

func (c curtUpstreams) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	s, err := c.fakeUpstreams.Login(ctx, up, s, user, password, repo)
	if errors.Is(err, ErrRefused) || err == nil && repo == "forbidden" {
		return nil, ErrRefusedLogin
	}
	if x, ok := s.(*fakeSession); ok {
		x.not = "forbidden"
	}
	return s, err
}

// TestForbiddenInOneWord: credentials that were let in before are not taken for
// wrong ones where one repository is refused to them; wrong ones are sent once, as
// ever, and revoked ones are out.
func TestForbiddenInOneWord(t *testing.T) {
	b, f := newPassBench(t)
	b.a.pass.ask = curtUpstreams{f}
	get := func(repo, password string, want int, asked ...string) {
		t.Helper()
		f.take()
		if got := b.get(t, "/v2/"+repo+"/manifests/1", "alice", password).StatusCode; got != want {
			t.Errorf("%s with %s: %d, want %d", repo, password, got, want)
		}
		if diff := cmp.Diff(asked, f.take()); diff != "" {
			t.Errorf("%s with %s: asked (-want +got):\n%s", repo, password, diff)
		}
	}
	get("a.io/x", "wonder", http.StatusOK, "login alice a.io/x", "check alice a.io/x manifests 1")
	for range freeTries - 1 { // a pod that comes back for what it may not have
		get("a.io/forbidden", "wonder", http.StatusForbidden, "login alice a.io/forbidden", "login alice a.io")
		get("a.io/forbidden", "wonder", http.StatusForbidden)
		get("a.io/x", "wonder", http.StatusOK)
		b.clock.advance(mayNotTTL)
	}
	get("a.io/y", "wonder", http.StatusOK, "check alice a.io/y manifests 1")
	for i := range freeTries { // none of that counted
		get("a.io/x", "guess"+strconv.Itoa(i), http.StatusUnauthorized, "login alice a.io/x")
	}
	get("a.io/x", "guess", http.StatusTooManyRequests)

	r := &revoking{fakeUpstreams: f}
	r.gone.Store(true)
	b.a.pass.ask = r
	b.clock.advance(sessionLife + time.Second)
	get("a.io/x", "wonder", http.StatusUnauthorized, "login alice a.io/x", "login alice a.io")
	get("a.io/y", "wonder", http.StatusUnauthorized)
}
