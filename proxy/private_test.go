package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// tellsAll lists a referrer of whatever it is asked about.
type tellsAll struct{ secret []byte }

func (l tellsAll) Serve(w http.ResponseWriter, _ *http.Request, _ oci.Repo, _ digest.Digest) error {
	_, _ = w.Write(l.secret)
	return nil
}

// ServeTheirs has nothing to tell: the list is the upstream's.
func (l tellsAll) ServeTheirs(w http.ResponseWriter, _ *http.Request, _ oci.Repo, _ digest.Digest) error {
	_, _ = io.WriteString(w, "theirs")
	return nil
}

func (l tellsAll) ServeTag(w http.ResponseWriter, r *http.Request, repo oci.Repo, d digest.Digest) error {
	return l.Serve(w, r, repo, d)
}

func (l tellsAll) Changed(context.Context, oci.Repo, digest.Digest) error { return nil }

// private is a proxy that holds something of up/private, which alice alone may
// pull from; everybody may pull from and push to all others. The upstream has the
// blob in private alone, and a manifest in mine that names it.
type private struct {
	*server
	secret           []byte
	blob, manifest   digest.Digest
	mine             string // a manifest of a stranger's, that names blob
	release, arrived chan struct{}
}

// newPrivate brings the proxy into a state: "cached", "in flight" or "partial".
func newPrivate(t *testing.T, state string) *private {
	t.Helper()
	g := newRegistry(t)
	p := &private{secret: random(2<<20, 9), release: make(chan struct{}), arrived: make(chan struct{}, 1)}
	p.server = newServer(t, g, func(o *Options) {
		o.Upstreams = append(o.Upstreams, &Upstream{Name: "local", Hosted: true})
		o.Referrers = tellsAll{p.secret[:100]}
		o.StopOnDisconnect = state == "partial"
		o.Access = accessFunc(func(r *http.Request, repo oci.Repo, _ oci.Action) error {
			if repo.String() != "up/private" || r.Header.Get("X-User") == "alice" {
				return nil
			}
			return oci.NewError(errcode.ErrorCodeDenied, "not you")
		})
	})
	p.blob = g.addBlob("private", p.secret)
	p.manifest = g.addManifest("private", "1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, p.blob, len(p.secret)))
	p.mine = image(digest.FromString("another config"), p.blob, len(p.secret))
	g.addManifest("mine", "1", v1.MediaTypeImageManifest, p.mine)
	if a := p.do(t, "GET", "/v2/up/private/manifests/1", "X-User", "alice"); a.status != 200 {
		t.Fatalf("alice: %d", a.status)
	}
	if state == "cached" {
		if a := p.do(t, "GET", p.path("private"), "X-User", "alice"); a.status != 200 || !bytes.Equal(a.body, p.secret) {
			t.Fatalf("alice: %d, %d bytes", a.status, len(a.body))
		}
		return p
	}
	g.serve = func(w http.ResponseWriter, r *http.Request, body []byte) bool { // half of it, then nothing
		if r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Length", "2097152")
		_, _ = w.Write(body[:1<<20])
		_ = http.NewResponseController(w).Flush()
		select {
		case p.arrived <- struct{}{}:
		default:
		}
		select {
		case <-p.release:
			_, _ = w.Write(body[1<<20:])
		case <-r.Context().Done():
		}
		return true
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+p.path("private"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", "alice")
	resp, err := p.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	<-p.arrived
	t.Cleanup(func() { resp.Body.Close() })
	if state == "partial" {
		resp.Body.Close()
		waitFor(t, func() bool { _, at := p.p.filling(p.p.routes().def, p.blob); return !at })
		g.mu.Lock()
		g.serve = nil
		g.mu.Unlock()
	}
	return p
}

func (p *private) path(repo string) string { return "/v2/up/" + repo + "/blobs/" + p.blob.String() }

// TestPrivateStaysPrivate: what is here of a private repository, whole, half or
// on its way, is not for a stranger, whichever way it is asked for.
func TestPrivateStaysPrivate(t *testing.T) {
	local := func(p *private) string { return "/v2/local/mine/blobs/" + p.blob.String() }
	for name, ask := range map[string]func(t *testing.T, p *private) []answer{
		"by its own name": func(t *testing.T, p *private) []answer {
			return []answer{
				p.do(t, "GET", p.path("private")), p.do(t, "HEAD", p.path("private")), p.do(t, "GET", "/v2/private/blobs/"+p.blob.String()+"?ns=up"),
				p.do(t, "GET", "/v2/up/private/manifests/1"), p.do(t, "GET", "/v2/up/private/manifests/"+p.manifest.String()),
			}
		},
		"by guessing the digest": func(t *testing.T, p *private) []answer {
			return []answer{
				p.do(t, "GET", p.path("mine")), p.do(t, "HEAD", p.path("mine")), p.do(t, "GET", local(p)), p.do(t, "HEAD", local(p)),
				p.do(t, "GET", "/v2/up/mine/manifests/"+p.manifest.String()), p.do(t, "GET", "/v2/local/mine/manifests/"+p.manifest.String()),
				p.do(t, "GET", p.path("mine"), "If-None-Match", etag(p.blob)),
			}
		},
		"by naming it in a manifest": func(t *testing.T, p *private) []answer {
			if a := p.do(t, "GET", "/v2/up/mine/manifests/1"); a.status != 200 {
				t.Errorf("the stranger's own manifest: %d", a.status)
			}
			p.pushBlob(t, "local/mine", []byte("another config"))
			return []answer{p.do(t, "GET", p.path("mine")), p.putManifest(t, "local/mine", "1", p.mine), p.do(t, "GET", local(p))}
		},
		"by mount": func(t *testing.T, p *private) []answer {
			for _, q := range []string{"&from=up/private", "&from=private", "", "&from=local/mine"} {
				a := p.send(t, http.MethodPost, "/v2/local/mine/blobs/uploads/?mount="+p.blob.String()+q, nil)
				if a.status != http.StatusAccepted {
					t.Errorf("mount%s: %d, want 202: send it", q, a.status)
				}
			}
			return []answer{p.do(t, "GET", local(p))}
		},
		"by referrers": func(t *testing.T, p *private) []answer {
			for _, q := range []string{"", "?artifactType=x"} { // as of an image that is nowhere
				if a := p.do(t, "GET", "/v2/up/mine/referrers/"+p.manifest.String()+q); a.status != 200 || string(a.body) != "theirs" {
					t.Errorf("of a repository without it: %d %q, want 200 and what the upstream lists there, alone", a.status, a.body)
				}
			}
			return []answer{p.do(t, "GET", "/v2/up/private/referrers/"+p.manifest.String())}
		},
		"by range": func(t *testing.T, p *private) []answer {
			var out []answer
			for _, path := range []string{p.path("private"), p.path("mine"), local(p)} {
				for _, r := range []string{"bytes=0-1", "bytes=-5", "bytes=0-", "bytes=0-9,500000-500009"} {
					out = append(out, p.do(t, "GET", path, "Range", r))
				}
			}
			return out
		},
	} {
		for _, state := range []string{"cached", "in flight", "partial"} {
			t.Run(name+", "+state, func(t *testing.T) {
				p := newPrivate(t, state)
				for i, a := range ask(t, p) {
					if a.err != nil || a.status < 400 || a.status >= 500 {
						t.Errorf("answer %d: %d, %v; want it refused", i, a.status, a.err)
					}
					if bytes.Contains(a.body, p.secret[:8]) || strings.Contains(a.header.Get("Content-Range"), "2097152") {
						t.Errorf("answer %d tells something", i)
					}
				}
				close(p.release)
				// And she to whom it belongs still gets it.
				if a := p.do(t, "GET", p.path("private"), "X-User", "alice"); a.status != 200 || !bytes.Equal(a.body, p.secret) {
					t.Errorf("alice: %d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			})
		}
	}
}
