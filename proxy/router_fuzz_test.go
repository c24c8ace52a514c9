package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRouter asks for any path with any method: an answer never comes from
// outside the grammar, and a refusal is one that clients can read.
func FuzzRouter(f *testing.F) {
	for _, s := range []string{
		"/v2/", "/v2", "/", "/v2/local/app/manifests/v1", "/v2/local/app/blobs/sha256:x", "/v2/local/app/blobs/uploads/", "/v2/local/app/blobs/uploads/x",
		"/v2/../../etc/passwd", "/v2/local/../up/manifests/x", "/v2/local//manifests/v1", "/v2/LOCAL/app/tags/list", "/v2/_catalog", "/v2/_catalog?n=-1",
		"/v2/local/manifests/manifests/v1", "/v2/blobs/uploads/blobs/uploads/", "/v2/local/app/referrers/sha256:" + strings.Repeat("0", 64),
		"/v2/local/app/manifests/%2e%2e", "/v2/local/app%2fx/manifests/v1", "/v2/local/a\x00b/tags/list", "/v2/local/app/blobs/uploads/?mount=sha256:x&from=..",
		"/v2/local/app/manifests/v1?ns=evil.example", "/v2/local/app/manifests/x?tag=..",
	} {
		for _, m := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "BREW"} {
			f.Add(m, s)
		}
	}
	s := newFuzzHost(f)
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.ContainsAny(method, " \t\r\n") || method == "" || u.Host != "" {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "http://registry.example/", strings.NewReader("{}"))
		r.Method, r.URL = method, u
		r = r.WithContext(t.Context())
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 300 && w.Code < 400 && w.Code != http.StatusNotModified {
			t.Errorf("%s %q: redirected to %q", method, target, w.Header().Get("Location"))
		}
		if w.Code >= 500 {
			t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code < 400 || method == http.MethodHead {
			return
		}
		var doc struct{ Errors []struct{ Code string } }
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Errors) != 1 || doc.Errors[0].Code == "" {
			t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
	})
}

// newFuzzHost is a proxy of a hosted namespace and no upstream at all.
func newFuzzHost(f *testing.F) *Proxy {
	f.Helper()
	s := newServer(f, newRegistry(f), func(o *Options) {
		o.Upstreams, o.Default = []*Upstream{{Name: "local", Hosted: true}}, ""
	})
	return s.p
}
