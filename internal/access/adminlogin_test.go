package access

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongAdminPassword: a wrong password is warned of once, in the dashboard's
// form and with a program's request, and stands in the audit all the same.
func TestWrongAdminPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	writePasswords(t, file, users)
	clock := newClock()
	keys, err := OpenKeys(filepath.Join(t.TempDir(), "keys"), nil, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	p := mixed()
	if p.Passwords, err = OpenPasswords(file, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := New(Options{Keys: keys, Now: clock.now, Resolve: resolve, Logger: slog.New(slog.NewTextHandler(&out, nil))}, p)
	for name, ask := range map[string]func(*http.Request) error{
		"a form": func(r *http.Request) error { _, err := a.AdminLogin(r, "alice", "sesame"); return err },
		"a program": func(r *http.Request) error {
			r.SetBasicAuth("alice", "sesame")
			_, err := a.mayAdminister(r)
			return err
		},
	} {
		out.Reset()
		err := ask(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/login", nil))
		if err == nil {
			t.Errorf("%s: it is let in", name)
		}
		if lines := out.String(); strings.Count(lines, "level=WARN msg=login ") != 1 || strings.Count(lines, "level=WARN") != 1 ||
			!strings.Contains(lines, "level=INFO msg=access ") || strings.Count(lines, "decision=refused") != 2 {
			t.Errorf("%s: %s", name, lines)
		}
	}
}
