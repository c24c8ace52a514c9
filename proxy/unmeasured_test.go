package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// TestRangeOfUnmeasured asks for ranges of what is here of a blob whose length the
// upstream does not tell with all of it, but with a part: of what an earlier process
// left, and behind a pull in a full store, which has made the first answer.
func TestRangeOfUnmeasured(t *testing.T) {
	layer := random(2<<20, 67)
	for _, how := range []string{"left", "pulled"} {
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprint(how, ", told by a part ", tells), func(t *testing.T) {
				g := newRegistry(t)
				d := g.addBlob("a", layer)
				g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
					switch {
					case r.Method == http.MethodHead:
						w.WriteHeader(http.StatusOK)
					case tells && r.Header.Get("Range") != "":
						return false
					default:
						rangeOf(w, r, body, len(body))
					}
					return true
				}
				s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { o.MaxBytes = 1 << 20 })
				path := "/v2/up/a/blobs/" + d.String()
				if how == "left" {
					s.p.grant(s.p.routes().def, oci.Repo{Upstream: "up", Name: "a"}, d)
					s.leave(t, d, -1, layer[:500_000])
				} else if a := s.do(t, http.MethodGet, path); a.status != http.StatusOK || !bytes.Equal(a.body, layer) {
					t.Fatalf("all of it: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
				a := getPatiently(t, s, path, "Range", "bytes=100000-199999")
				want, status := layer, http.StatusOK
				if tells {
					want, status = layer[100_000:200_000], http.StatusPartialContent
				}
				if a.status != status || a.err != nil || !bytes.Equal(a.body, want) {
					t.Errorf("a range: %d, %d bytes, %v, want %d, %d", a.status, len(a.body), a.err, status, len(want))
				}
			})
		}
	}
}
