package access

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestCatalog: with a token for the list of repositories, as with a password, people
// find those that they may pull from; without either they are told how to log in.
func TestCatalog(t *testing.T) {
	b := newBench(t, mixed())
	all := []string{"local/nobody", "local/other", "local/team/x"}
	token := func(user, password, scope string) string { return b.token(t, user, password, scope).Token }
	for _, tt := range []struct {
		name, user, secret string // a bearer token without a user
		want, challenge    string
	}{
		{name: "nobody", want: "local/other", challenge: "registry:catalog:*"},
		{name: "a password", user: "alice", secret: "wonder", want: "local/other local/team/x"},
		{name: "a wrong password", user: "alice", secret: "other", challenge: "service"},
		{name: "a token for the list", secret: token("alice", "wonder", "registry:catalog:*"), want: "local/other local/team/x"},
		{name: "nobody's token for the list", secret: token("", "", "registry:catalog:*"), want: "local/other"},
		{name: "a token for a repository", secret: token("alice", "wonder", "repository:local/team/x:pull"), want: "local/other local/team/x", challenge: "registry:catalog:*"},
		{name: "a token for nothing", secret: token("alice", "wonder", ""), want: "local/other", challenge: "registry:catalog:*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/_catalog", nil)
			switch {
			case tt.user != "":
				req.SetBasicAuth(tt.user, tt.secret)
			case tt.secret != "":
				req.Header.Set("Authorization", "Bearer "+tt.secret)
			}
			var got []string
			var err error
			b.a.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for _, name := range all {
					if repo, rerr := oci.ParseRepo(name); rerr != nil {
						t.Error(rerr)
					} else if b.a.Lists(r, repo) {
						got = append(got, name)
					}
				}
				err = b.a.MayList(r)
			})).ServeHTTP(httptest.NewRecorder(), req)
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("finds %q, want %q", s, tt.want)
			}
			e, _ := errors.AsType[*oci.Error](err)
			if (e != nil) != (tt.challenge != "") || e != nil && !strings.Contains(e.Challenge, tt.challenge) {
				t.Errorf("is told %v, want %q", err, tt.challenge)
			}
		})
	}
}
