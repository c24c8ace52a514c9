package proxy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/upstream"
)

// TestRefusedPushSaysWhy: a lasting no of the upstream is one of ours, with its reason.
func TestRefusedPushSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		upstream int
		message  string
		status   int
		want     string
	}{
		{403, "quota exceeded", 403, `DENIED`},
		{403, "", 403, `may not push there, or a limit of its own is reached"`},
		{409, "tag is \"immutable\"\x07", 409, `DENIED`},
		{413, "", 413, `takes nothing of this size"`},
		{400, "no such thing", 400, `refuses it with 400`},
		{500, "a stack", 503, `the upstream is not available`},
	} {
		err := &upstream.StatusError{Upstream: "up", Op: "push", Status: tc.upstream, Message: tc.message}
		front, _ := newFailing(t, true, err, func(*Options) {})
		loc := front.begin(t, "up/local/app")
		a := front.send(t, http.MethodPatch, loc, bytes.NewReader(random(100, 1)))
		if a.status == http.StatusAccepted { // it had not said so yet
			a = front.send(t, http.MethodPut, loc+"?digest="+digest.FromBytes(random(100, 1)).String(), nil)
		}
		body := strings.ReplaceAll(string(a.body), `\"`, `'`)
		if a.status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("upstream %d %q: %d %s, want %d %s", tc.upstream, tc.message, a.status, body, tc.status, tc.want)
		}
		if quoted := tc.message != "" && tc.upstream < 500; quoted != strings.Contains(body, ": it says '") || strings.Contains(body, "stack") {
			t.Errorf("upstream %d %q: %s", tc.upstream, tc.message, body)
		}
	}
}
