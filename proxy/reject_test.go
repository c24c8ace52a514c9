package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/upstream"
)

// TestWrongMirror: a mirror that sends wrong bytes costs one transfer at most, and
// the next one is the upstream's; of an indexed layer the client notices nothing.
func TestWrongMirror(t *testing.T) {
	for name, tt := range map[string]struct {
		indexed bool
		first   int // what the first client gets
	}{"whole": {false, 0}, "a span": {true, http.StatusPartialContent}} {
		t.Run(name, func(t *testing.T) {
			origin, mirror := newRegistry(t), newRegistry(t)
			layer := tarGz(t, 60)
			d := origin.addBlob("a", layer)
			bad := bytes.Clone(layer)
			mirror.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
				return true
			}
			mirror.addBlob("a", layer)
			s := newServer(t, origin, func(o *Options) {
				at, err := url.Parse(origin.URL)
				if err != nil {
					t.Fatal(err)
				}
				first, err := url.Parse(mirror.URL)
				if err != nil {
					t.Fatal(err)
				}
				c, err := upstream.New(upstream.Options{Name: "up", URL: at, Mirrors: []*url.URL{first}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				o.Upstreams[0].Registry = c
			})
			path, header, want := "/v2/up/a/blobs/"+d.String(), []string{}, layer
			if tt.indexed {
				_, table := index(t, s, layer)
				sp := table.Span(3)
				bad[sp.Off+10] ^= 1
				header, want = []string{"Range", fmt.Sprintf("bytes=%d-%d", sp.Off, sp.End-1)}, layer[sp.Off:sp.End]
			} else {
				bad[10] ^= 1
			}
			a := s.do(t, http.MethodGet, path, header...)
			right := a.err == nil && bytes.Equal(a.body, want)
			if tt.first != 0 && (!right || a.status != tt.first) || tt.first == 0 && right {
				t.Errorf("first: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			if tt.first == 0 && a.err == nil && a.status/100 == 2 {
				t.Errorf("a whole wrong body: %d, %d bytes", a.status, len(a.body))
			}
			waitFor(t, func() bool { _, filling := s.p.filling(s.p.routes().def, d); return !filling })
			mirror.take()
			origin.take()
			if a = s.do(t, http.MethodGet, path, header...); a.err != nil || !bytes.Equal(a.body, want) {
				t.Errorf("second: %d, %d bytes, %v", a.status, len(a.body), a.err)
			}
			if got := mirror.take(); len(got) != 0 {
				t.Errorf("the mirror was asked %q", got)
			}
			if got := strings.Join(origin.take(), ", "); !tt.indexed && got != "GET blobs" {
				t.Errorf("the upstream was asked %q", got)
			}
		})
	}
}
