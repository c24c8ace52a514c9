package upstream

import (
	"errors"
	"net/http"
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
