package access

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestGuessesAreTold: what counts as a guess has its line and its count, also
// where a token service does not say that the password is wrong; once.
func TestGuessesAreTold(t *testing.T) {
	b, f := newPassBench(t)
	b.a.pass.ask = lenientUpstreams{f}
	var out bytes.Buffer // each request is over when its answer is here
	b.a.log = slog.New(slog.NewTextHandler(&out, nil))
	for _, step := range []struct {
		name, repo, password string
		want                 int
		says                 string
		lines                int // of login
	}{
		{"a guess", "a.io/forbidden", "guess", 403, "or to this password", 1},
		{"the same again", "a.io/forbidden", "guess", 403, "or to this password", 0},
		{"another", "a.io/x", "other", 403, "or to this password", 1},
		{"alice", "a.io/x", "wonder", 200, "", 0},
		{"what is forbidden to her", "a.io/forbidden", "wonder", 403, "lets alice in", 0},
	} {
		out.Reset()
		before := testutil.ToFloat64(b.a.metrics.logins.WithLabelValues(loginWrong))
		if got := b.get(t, "/v2/"+step.repo+"/manifests/1", "alice", step.password).StatusCode; got != step.want {
			t.Errorf("%s: %d, want %d", step.name, got, step.want)
		}
		lines := 0
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "msg=login ") && strings.Contains(line, "user=alice") && strings.Contains(line, "decision=refused") && strings.Contains(line, "repo="+step.repo) {
				lines++
			}
		}
		counted := int(testutil.ToFloat64(b.a.metrics.logins.WithLabelValues(loginWrong)) - before)
		if lines != step.lines || counted != step.lines {
			t.Errorf("%s: %d lines, counted %d, want %d: %s", step.name, lines, counted, step.lines, &out)
		}
		if !strings.Contains(out.String(), step.says) || step.want == http.StatusOK && out.Len() > 0 {
			t.Errorf("%s: %q is not said: %s", step.name, step.says, &out)
		}
		if strings.Contains(out.String(), step.password) {
			t.Errorf("%s: the password is told: %s", step.name, &out)
		}
	}
}
