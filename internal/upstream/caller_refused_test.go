package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestBasicLoginIsRefused says that credentials are refused for everything where
// nothing smaller can be asked for: whoever asks again only adds a wrong password.
func TestBasicLoginIsRefused(t *testing.T) {
	reg := newRegistry(t)
	tries := 0
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if u, _, ok := r.BasicAuth(); ok && u == "alice" {
			tries++
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "x")
		return true
	}
	err := newClient(t, reg.URL).NewCaller().Login(t.Context(), "alice", "typo", repo)
	if !errors.Is(err, ErrCredentials) || !IsDenied(err) {
		t.Errorf("got %v, want refused credentials", err)
	}
	if tries != 1 {
		t.Errorf("a wrong password was sent %d times", tries)
	}
}

// TestTokenLoginIsRefused counts how often a token service hears a password: once
// where that is wrong, and again for less only where what was asked for may be why
// it was refused.
func TestTokenLoginIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		push   bool
		status int
		want   []string // the scopes that were asked for
		all    bool     // refused whatever is asked for
	}{
		{"a wrong password", false, http.StatusUnauthorized, []string{"pull"}, true},
		{"a wrong password, where callers push", true, http.StatusUnauthorized, []string{"pull,push"}, true},
		{"forbidden", false, http.StatusForbidden, []string{"pull"}, false},
		{"forbidden, where callers push", true, http.StatusForbidden, []string{"pull,push", "pull"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, password, _ := r.BasicAuth(); password != "typo" {
					t.Errorf("asked for a token with %q", password)
				}
				_ = r.ParseForm() // of a POST
				scope := r.Form.Get("scope")
				asked = append(asked, scope[strings.LastIndexByte(scope, ':')+1:])
				refuse(w, tt.status, "DENIED", "x")
			}))
			defer ts.Close()
			reg := newRegistry(t)
			reg.hook = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+ts.URL+`/token",service="x"`)
				refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
				return true
			}
			k := newClient(t, reg.URL, func(o *Options) { o.CallersPush = tt.push }).NewCaller()
			err := k.Login(t.Context(), "alice", "typo", repo)
			if !IsDenied(err) || errors.Is(err, ErrCredentials) != tt.all {
				t.Errorf("got %v, want it refused whatever is asked for: %t", err, tt.all)
			}
			if !slices.Equal(asked, tt.want) {
				t.Errorf("the token service was asked for %q, want %q", asked, tt.want)
			}
		})
	}
}
