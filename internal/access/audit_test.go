package access

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sociable/sociable/internal/oci"
)

// TestAuditLines: what changes something or is refused has a line with who, what
// and where; no line has a password or token.
func TestAuditLines(t *testing.T) {
	a := newBench(t, mixed()).a
	var out bytes.Buffer // each request is over when its answer is here
	a.log = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	const token = "eyJhbGciOiJFZERTQSJ9.e30.c2VjcmV0"
	for name, tt := range map[string]struct {
		user, password string // user "": none; password "": the user is a token
		repo           string
		action         oci.Action
		sees           bool // it is asked by the way
		want           []string
	}{
		"a push":              {user: "alice", password: "wonder", repo: "local/app", action: oci.ActionPush, want: []string{"INFO access alice password push local/app allowed"}},
		"a pull":              {user: "alice", password: "wonder", repo: "a.io/private/x", action: oci.ActionPull, want: []string{"DEBUG access alice password pull a.io/private/x allowed"}},
		"a public pull":       {repo: "a.io/app", action: oci.ActionPull, want: []string{"DEBUG access anonymous anonymous pull a.io/app allowed"}},
		"a deletion, refused": {user: "alice", password: "wonder", repo: "local/team/app", action: oci.ActionDelete, want: []string{"WARN access alice password delete local/team/app refused"}},
		"nobody":              {repo: "b.io/app", action: oci.ActionPull, want: []string{"DEBUG access anonymous anonymous pull b.io/app asked to log in"}},
		"a wrong password": {user: "alice", password: "sesame", repo: "a.io/app", action: oci.ActionPull,
			want: []string{"WARN login alice password   refused", "WARN access anonymous  pull a.io/app refused"}},
		"a wrong token":     {user: token, repo: "a.io/app", action: oci.ActionPull, want: []string{"WARN access anonymous anonymous pull a.io/app refused"}},
		"seen by the way":   {user: "bob", password: "builder", repo: "a.io/private/x", action: oci.ActionPull, sees: true},
		"hidden by the way": {user: "bob", password: "builder", repo: "local/nobody", action: oci.ActionPull, sees: true},
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/x", nil)
			req.RemoteAddr = "192.0.2.7:4711"
			switch {
			case tt.password != "":
				req.SetBasicAuth(tt.user, tt.password)
			case tt.user != "":
				req.Header.Set("Authorization", "Bearer "+tt.user)
			}
			repo, err := resolve("", tt.repo)
			if err != nil {
				t.Fatal(err)
			}
			a.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if tt.sees {
					a.Sees(r, repo)
				} else {
					_ = a.May(r, repo, tt.action) // the lines are looked at
				}
			})).ServeHTTP(httptest.NewRecorder(), req)
			for _, secret := range []string{"sesame", "wonder", token} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("a line has %q: %s", secret, out.String())
				}
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				var l struct{ Level, Msg, User, Via, Action, Repo, Decision, Client string }
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatal(err)
				}
				if l.Client != "192.0.2.7:4711" {
					t.Errorf("client %q in %s", l.Client, line)
				}
				got = append(got, strings.Join([]string{l.Level, l.Msg, l.User, l.Via, l.Action, l.Repo, l.Decision}, " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}
