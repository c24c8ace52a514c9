package access

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// pickyUpstreams have a token service that gives no token at all to who may have
// nothing of what it is asked for.
type pickyUpstreams struct{ *fakeUpstreams }

func (p pickyUpstreams) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	s, err := p.fakeUpstreams.Login(ctx, up, s, user, password, repo)
	switch x, _ := s.(*fakeSession); {
	case err == nil && repo == "forbidden":
		return nil, ErrRefused
	case err == nil:
		x.not = "forbidden"
	}
	return s, err
}

// TestForbiddenRepository: that one repository is refused to a caller is no wrong
// password, and refuses nothing else.
func TestForbiddenRepository(t *testing.T) {
	b, f := newPassBench(t)
	b.a.pass.ask = pickyUpstreams{f}
	get := func(repo, user, password string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+"/v2/"+repo+"/manifests/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if req.SetBasicAuth(user, password); password == "" {
			req.Header.Set("Authorization", "Bearer "+user)
		}
		resp, err := b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d %s, %v; want %d", repo, resp.StatusCode, body, err, want)
		}
		return string(body)
	}
	for range 2 * freeTries {
		if body := get("a.io/forbidden", "alice", "wonder", 403); !strings.Contains(body, "refuses a.io/forbidden") {
			t.Errorf("it does not say what is refused: %s", body)
		}
		f.take()
		get("a.io/forbidden", "alice", "wonder", 403)
		if asked := f.take(); len(asked) > 0 {
			t.Errorf("what was just refused was asked again: %q", asked)
		}
		b.clock.advance(mayNotTTL)
	}
	get("a.io/x", "alice", "wonder", 200)
	get("b.io/x", "alice", "wonder", 200)

	both := b.token(t, "alice", "wonder", "repository:a.io/forbidden:pull", "repository:a.io/x:pull")
	get("a.io/x", both.Token, "", 200)
	get("a.io/forbidden", both.Token, "", 403)
	only := b.token(t, "alice", "wonder", "repository:a.io/forbidden:pull")
	if only.status != http.StatusOK {
		t.Errorf("a token for good credentials: %d", only.status)
	}
	get("a.io/forbidden", only.Token, "", 403)
	b.clock.advance(mayNotTTL)
	get("a.io/forbidden", only.Token, "", 401) // it may have been let in meanwhile: the next token tells

	for i := range freeTries - 1 { // what was refused to her before the service was known to tell counts as one
		get("a.io/forbidden", "alice", strings.Repeat("g", i+1), 401)
	}
	get("a.io/forbidden", "alice", "another", http.StatusTooManyRequests)
	get("a.io/x", "alice", "wonder", 200)
}

// waitingUpstreams answer when they are told to.
type waitingUpstreams struct {
	*fakeUpstreams
	asked chan string
	let   chan struct{}
}

func (w waitingUpstreams) Login(ctx context.Context, up string, s Session, user, password, repo string) (Session, error) {
	w.asked <- "login"
	<-w.let
	return w.fakeUpstreams.Login(ctx, up, s, user, password, repo)
}

func (w waitingUpstreams) Check(ctx context.Context, s Session, repo oci.Repo, kind, ref string) error {
	w.asked <- "check"
	<-w.let
	return w.fakeUpstreams.Check(ctx, s, repo, kind, ref)
}

// TestWhoLeavesDoesNotWait: a caller that left waits for no upstream, and its try
// still counts: it could come back for the answer.
func TestWhoLeavesDoesNotWait(t *testing.T) {
	b, f := newPassBench(t)
	w := waitingUpstreams{f, make(chan string, 99), make(chan struct{})}
	b.a.pass.ask = w
	repo := oci.Repo{Upstream: "a.io", Name: "x"}
	leave := func(user, password string) (asked string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+"/v2/a.io/x/manifests/1", nil)
			if err != nil {
				done <- err
				return
			}
			if user != "" {
				req.SetBasicAuth(user, password)
			}
			req.RemoteAddr = "192.0.2.1:1"
			b.a.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { done <- b.a.May(r, repo, oci.ActionPull) })).ServeHTTP(nil, req)
		}()
		asked = <-w.asked
		cancel()
		if err := <-done; err == nil {
			t.Errorf("%s, who left, was let in", user)
		}
		return asked
	}
	var got []string
	got = append(got, leave("", ""))
	for i := range freeTries {
		got = append(got, leave("alice", strings.Repeat("g", i+1)))
	}
	if want := append([]string{"check"}, slices.Repeat([]string{"login"}, freeTries)...); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
	if _, wait := b.a.penalties.begin(trier{"192.0.2.1", "alice", "a.io"}, loginKey{1}, b.clock.now()); wait == 0 {
		t.Error("guesses of somebody who leaves are not counted")
	}
	close(w.let)
}
