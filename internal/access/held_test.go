package access

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// spent are upstreams that must not be asked for a while.
type spent struct {
	*fakeUpstreams
	err error
}

func (s *spent) Login(context.Context, string, Session, string, string, string) (Session, error) {
	return nil, s.err
}

// TestHeldUpstream: where an upstream was asked too much to be asked about a caller,
// that is told as such, and when to come again; what it said before counts on.
func TestHeldUpstream(t *testing.T) {
	b, f := newPassBench(t)
	const path = "/v2/a.io/x/manifests/1"
	if got := b.get(t, path, "alice", "wonder").StatusCode; got != http.StatusOK {
		t.Fatalf("at first: %d", got)
	}
	x := &spent{f, &HeldError{After: 7 * time.Second, Why: "too much was asked", Err: errDown}}
	b.a.pass.ask = x
	b.clock.advance(mayTTL + sessionLife)
	if got := b.get(t, path, "alice", "wonder").StatusCode; got != http.StatusOK {
		t.Errorf("who was let in before: %d", got)
	}
	const other = "/v2/a.io/y/manifests/1"
	resp := b.get(t, other, "alice", "wonder")
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("%d %v: want 429 after 7 s", resp.StatusCode, resp.Header)
	}
	e, ok := errors.AsType[*oci.Error](awayError(oci.Repo{Upstream: "a.io", Name: "y"}, x.err))
	if !ok || e.Message != "a.io cannot be asked whether this caller may pull a.io/y: too much was asked" {
		t.Errorf("in words: %v", e)
	}
	x.err = errDown
	b.a.pass = newPassthrough(x)
	if got := b.get(t, other, "alice", "wonder").StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("an upstream that is down: %d", got)
	}
	if !errors.Is(&HeldError{Why: "x", Err: errDown}, errDown) {
		t.Error("the cause is lost")
	}
}
