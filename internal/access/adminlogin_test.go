package access

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestWrongAdminPassword: a wrong password is warned of once, in the dashboard's
// form and with a program's request, and stands in the audit all the same.
func TestWrongAdminPassword(t *testing.T) {
	a := newBench(t, mixed()).a
	var out bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&out, nil))
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
