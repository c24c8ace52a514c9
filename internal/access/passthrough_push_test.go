package access

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestPassthroughPushes: who is somebody at an upstream that takes pushes may
// send to it, which then says more; nobody else, and nothing else, gets there.
func TestPassthroughPushes(t *testing.T) {
	b, _ := newPassBench(t)
	p := b.a.policy.Load().Policy
	p.Pushed = map[string]bool{"a.io": true}
	a := New(Options{Keys: b.a.opt.Keys, Now: b.clock.now, Resolve: resolve, Upstreams: &fakeUpstreams{}}, p)
	b.a = a
	b.Close()
	b.Server = httptest.NewServer(a.Handler(oci.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		repo, err := resolve(r.Host, name)
		if err != nil {
			return err
		}
		action := map[string]oci.Action{http.MethodGet: oci.ActionPull, http.MethodPut: oci.ActionPush, http.MethodDelete: oci.ActionDelete}[r.Method]
		return a.May(r, repo, action)
	})))
	t.Cleanup(b.Close)

	const all = ":pull,push,delete"
	tokens := map[string]string{
		"to push": b.token(t, "alice", "wonder", "repository:a.io/x"+all).Token,
		"to pull": b.token(t, "alice", "wonder", "repository:a.io/x:pull").Token,
		"b.io":    b.token(t, "alice", "wonder", "repository:b.io/x"+all).Token,
		"nobody":  b.token(t, "", "", "repository:a.io/x"+all).Token,
	}
	password := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	token := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tokens[name]) }
	}
	for _, tt := range []struct {
		name, method, path string
		auth               func(*http.Request)
		want               int
		scope              string // in the challenge
	}{
		{name: "alice", method: http.MethodPut, path: "/v2/a.io/x", auth: password("alice", "wonder"), want: 200},
		{name: "alice, by a token", method: http.MethodPut, path: "/v2/a.io/x", auth: token("to push"), want: 200},
		{name: "which is to pull as well", method: http.MethodGet, path: "/v2/a.io/x", auth: token("to push"), want: 200},
		{name: "by a token to pull", method: http.MethodPut, path: "/v2/a.io/x", auth: token("to pull"), want: 401, scope: "repository:a.io/x:pull,push"},
		{name: "by a token for another repository", method: http.MethodPut, path: "/v2/a.io/y", auth: token("to push"), want: 401, scope: "repository:a.io/y:pull,push"},
		{name: "alice deletes", method: http.MethodDelete, path: "/v2/a.io/x", auth: password("alice", "wonder"), want: 403},
		{name: "where nothing is pushed", method: http.MethodPut, path: "/v2/b.io/x", auth: password("alice", "wonder"), want: 403},
		{name: "where nothing is pushed, by a token", method: http.MethodPut, path: "/v2/b.io/x", auth: token("b.io"), want: 403},
		{name: "a wrong password", method: http.MethodPut, path: "/v2/a.io/x", auth: password("alice", "x"), want: 401},
		{name: "one of ours", method: http.MethodPut, path: "/v2/a.io/x", auth: password("bob", "builder"), want: 403},
		{name: "nobody", method: http.MethodPut, path: "/v2/a.io/pub", auth: func(*http.Request) {}, want: 401, scope: "repository:a.io/pub:pull,push"},
		{name: "nobody's token", method: http.MethodPut, path: "/v2/a.io/x", auth: token("nobody"), want: 401, scope: "repository:a.io/x:pull,push"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, b.URL+tt.path+"/manifests/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		tt.auth(req)
		resp, err := b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.want || !strings.Contains(got, tt.scope) {
			t.Errorf("%s: %d, challenge %q; want %d, %s", tt.name, resp.StatusCode, got, tt.want, tt.scope)
		}
	}
}
