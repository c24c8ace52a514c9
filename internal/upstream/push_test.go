package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// pushable is a registry that takes pushes from who has a token that says so. Its
// challenges name no scope, or what extra says.
type pushable struct {
	*httptest.Server
	tokens *tokenService
	extra  string
	got    map[string][]byte // by digest or reference
}

func newPushable(t *testing.T, extra string) *pushable {
	t.Helper()
	p := &pushable{tokens: newTokenService(t, (*httptest.Server).Start), extra: extra, got: map[string][]byte{}}
	p.tokens.user, p.tokens.password = "robot", "secret"
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *pushable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.tokens.mu.Lock()
	scopes, ok := p.tokens.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	p.tokens.mu.Unlock()
	change := r.Method != http.MethodGet && r.Method != http.MethodHead
	if !ok || change && !strings.Contains(scopes, "push") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+p.tokens.URL+`/token",service="the registry"`+p.extra)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "":
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPost:
		w.Header().Set("Location", r.URL.Path+"1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPatch:
		p.got["sent"] = body
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/"):
		p.got[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		p.got[r.URL.Query().Get("digest")] = p.got["sent"]
		w.WriteHeader(http.StatusCreated)
	default:
		_, _ = w.Write([]byte("{}"))
	}
}

// TestPushAsksForTheRight: a push is made with a token that may push, whether the
// upstream's challenge says which one that is, or nothing at all.
func TestPushAsksForTheRight(t *testing.T) {
	for name, extra := range map[string]string{
		"a challenge without a scope":    "",
		"a challenge with the scope":     `,scope="` + pushScope(repo) + `"`,
		"a challenge in its own words":   `,scope="repository:` + repo + `:push,pull"`,
		"a challenge for something else": `,scope="registry:catalog:*"`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPushable(t, extra)
			c := newClient(t, p.URL, credentials("robot", "secret"))
			blob := []byte("some bytes")
			d := digest.FromBytes(blob)
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil { // its token may only pull
				t.Fatal(err)
			}
			open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
			if err := c.PushBlob(t.Context(), repo, open, func() digest.Digest { return d }); err != nil {
				t.Errorf("push a blob: %v", err)
			}
			if ok, err := c.MountBlob(t.Context(), repo, "other", d); !ok || err != nil {
				t.Errorf("mount: %t, %v", ok, err)
			}
			if _, err := c.PushManifest(t.Context(), repo, oci.Reference{Tag: "v2"}, "application/json", []byte("{}")); err != nil {
				t.Errorf("push a manifest: %v", err)
			}
			if string(p.got[d.String()]) != "some bytes" || string(p.got["v2"]) != "{}" {
				t.Errorf("got %q", p.got)
			}
			before := p.tokens.issued.Load()
			if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
				t.Error(err)
			}
			if n := p.tokens.issued.Load() - before; n != 0 || before > 3 {
				t.Errorf("%d tokens for pushing, %d more for pulling after it", before, n)
			}
		})
	}
}

// TestPushRefused: who may not push is refused, in few words, and goes on
// pulling.
func TestPushRefused(t *testing.T) {
	for name, status := range map[string]int{"a token for less": 200, "no token": 403} {
		t.Run(name, func(t *testing.T) {
			p := newPushable(t, "")
			p.tokens.hook = func(w http.ResponseWriter, r *http.Request) bool {
				scopes := r.URL.Query()["scope"]
				i := slices.Index(scopes, pushScope(repo))
				switch {
				case i < 0:
				case status != 200:
					refuse(w, status, "DENIED", "not you")
					return true
				default:
					r.URL.RawQuery = url.Values{"service": {"the registry"}, "scope": {pullScope(repo)}}.Encode()
				}
				return false
			}
			c := newClient(t, p.URL, credentials("robot", "secret"))
			for range 2 {
				_, err := c.PushManifest(t.Context(), repo, oci.Reference{Tag: "v2"}, "application/json", []byte("{}"))
				if s, ok := errors.AsType[*StatusError](err); !IsDenied(err) || !ok || s.RetryAfter != 0 {
					t.Errorf("got %v, want it denied", err)
				}
				if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
					t.Errorf("a pull after that: %v", err)
				}
			}
			if n := p.tokens.issued.Load(); n > 8 {
				t.Errorf("%d tokens were asked for", n)
			}
		})
	}
}
