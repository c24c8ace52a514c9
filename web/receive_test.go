package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestReceive: a body is one JSON value and nothing else, and who sends another is
// told what is wrong with it and what is wanted.
func TestReceive(t *testing.T) {
	const takes = "an object with name, block, reason, force, keep_index"
	for body, want := range map[string]string{
		`{"name":"redis:7"}` + "\r\n ":   "",
		``:                               "the body is empty: send JSON, " + takes,
		` `:                              "the body is empty: send JSON, " + takes,
		`{"name":"redis:7"`:              "it is cut off; this takes " + takes,
		`{"name":"redis:7"}}`:            "something stands behind its end; this takes " + takes,
		`{"name":"redis:7"}{"name":"x"}`: "something stands behind its end; this takes " + takes,
		`{"name":"redis:7"} x`:           "something stands behind its end; this takes " + takes,
		`{"nam":"redis:7"}`:              `unknown field "nam"; this takes ` + takes,
		`{"name":7}`:                     "name is a number, and takes a string; this takes " + takes,
		`{"block":[]}`:                   "block is an array, and takes true or false; this takes " + takes,
		`[]`:                             "it is an array; this takes " + takes,
		`null`:                           "it is null; this takes " + takes,
		`{"name":"x","block":null}`:      "block is null, and takes true or false: leave it out; this takes " + takes,
		`{"Name":null}`:                  "name is null, and takes a string: leave it out; this takes " + takes,
		`{"name":"` + strings.Repeat("a", smallBody) + `"}`: "it has more than 4096 bytes; this takes " + takes,
	} {
		var q PurgeRequest
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		err := receive(httptest.NewRecorder(), r, &q)
		switch {
		case want == "" && (err != nil || q.Name != "redis:7"):
			t.Errorf("%q: %v, %+v", body, err, q)
		case want != "" && (err == nil || oci.AsError(err).HTTPStatus() != http.StatusBadRequest || !strings.Contains(oci.AsError(err).Message, want)):
			t.Errorf("%.60q: %v, want a 400 that says %q", body, err, want)
		}
	}
}
