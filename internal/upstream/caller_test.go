package upstream

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestCaller holds that a caller's credentials are exchanged once, are what the
// upstream is asked with, and that nothing else is, neither before nor after.
func TestCaller(t *testing.T) {
	for name, scheme := range map[string]string{"bearer": "Bearer", "basic": "Basic"} {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			reg.manifests["v1"] = []byte("{}")
			var ts *tokenService
			if scheme == "Bearer" {
				ts = newTokenService(t, (*httptest.Server).Start)
				ts.user, ts.password = "alice", "wonder"
				guarded(reg, ts)
			} else {
				reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
					if u, p, _ := r.BasicAuth(); u == "alice" && p == "wonder" {
						return false
					}
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
					return true
				}
			}
			c := newClient(t, reg.URL)
			k := c.NewCaller()
			ctx := As(t.Context(), k)
			if _, err := c.Manifest(ctx, repo, tag("v1")); !IsDenied(err) {
				t.Errorf("before the login: %v, want it denied", err)
			}
			if err := k.Login(t.Context(), "alice", "wrong", repo); !IsDenied(err) {
				t.Errorf("a wrong password: %v, want it denied", err)
			}
			if k.Until(repo).After(time.Now()) {
				t.Error("a wrong password is good")
			}
			if err := k.Login(t.Context(), "alice", "wonder", repo); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := c.Manifest(ctx, repo, tag("v1")); err != nil {
					t.Fatal(err)
				}
			}
			if !k.Until(repo).After(time.Now()) {
				t.Error("the login is over already")
			}
			if ts != nil {
				if n := ts.issued.Load(); n != 2 { // the wrong one, and the right one
					t.Errorf("%d exchanges, want 2", n)
				}
				ts.revoke()
				if _, err := c.Manifest(ctx, repo, tag("v1")); !IsDenied(err) {
					t.Errorf("after the token was revoked: %v, want it denied", err)
				}
				if k.Until(repo).After(time.Now()) {
					t.Error("what was revoked is still good")
				}
			}
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); !IsDenied(err) {
				t.Errorf("somebody else: %v, want it denied", err)
			}
			other := newClient(t, reg.URL)
			if _, err := other.Manifest(As(t.Context(), k), repo, tag("v1")); !IsDenied(err) {
				t.Errorf("another client: %v, want it denied", err)
			}
			if As(t.Context(), nil) != t.Context() {
				t.Error("nobody is somebody")
			}
		})
	}
}

// TestCallerPushes holds that a caller is logged in to push where that is meant,
// and to pull where the token service gives no more.
func TestCallerPushes(t *testing.T) {
	for _, tt := range []struct {
		name         string
		push, refuse bool
		want         string
	}{
		{name: "to pull", want: "pull"},
		{name: "to push", push: true, want: "pull,push"},
		{name: "as far as that goes", push: true, refuse: true, want: "pull"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newRegistry(t)
			reg.manifests["v1"] = []byte("{}")
			ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				scope := r.URL.Query().Get("scope")
				if tt.refuse && strings.Contains(scope, "push") {
					refuse(w, http.StatusForbidden, "DENIED", "not that")
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"token": strings.ReplaceAll(scope, ":", "_"), "expires_in": 300})
			}))
			defer ts.Close()
			var sent string
			reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if sent = r.Header.Get("Authorization"); sent != "" {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+ts.URL+`/token",service="x"`)
				refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
				return true
			}
			c := newClient(t, reg.URL, func(o *Options) { o.CallersPush = tt.push })
			k := c.NewCaller()
			if err := k.Login(t.Context(), "alice", "wonder", repo); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Manifest(As(t.Context(), k), repo, tag("v1")); err != nil {
				t.Error(err)
			}
			if want := "Bearer repository_" + repo + "_" + tt.want; sent != want {
				t.Errorf("asked with %q, want %q", sent, want)
			}
		})
	}
}
