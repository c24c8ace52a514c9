package upstream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sociable/sociable/internal/oci"
)

// mirrors has the client ask these first.
func mirrors(t *testing.T, roots ...string) func(*Options) {
	t.Helper()
	return func(o *Options) {
		for _, r := range roots {
			u, err := url.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			o.Mirrors = append(o.Mirrors, u)
		}
	}
}

// TestMirrors holds that a mirror answers while it can, that whatever it does
// wrong the upstream itself is asked, and that this one has the last word.
func TestMirrors(t *testing.T) {
	data := randomBytes(300_000)
	refuses := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	for _, tt := range []struct {
		name   string
		hook   func(http.ResponseWriter, *http.Request) bool
		origin bool // has to be asked
	}{
		{"has it", nil, false},
		{"knows nothing", refuses(404), true},
		{"wants a login", refuses(401), true},
		{"refuses", refuses(403), true},
		{"throttles", refuses(429), true},
		{"is broken", refuses(500), true},
		{"cuts the connection", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, true},
		{"sends something else", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead || !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Range", "bytes 0-2/9")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("no!"))
			return true
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mirror, origin := newRegistry(t), newRegistry(t)
			mirror.hook = tt.hook
			for _, reg := range []*registry{mirror, origin} {
				reg.manifests["v1"] = []byte(manifestBody)
				reg.addBlob(data)
			}
			d := origin.addBlob(data)
			c := newClient(t, origin.URL, mirrors(t, mirror.URL))
			if _, err := c.HeadBlob(t.Context(), repo, d); err != nil {
				t.Errorf("head: %v", err)
			}
			if m, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil || string(m.Body) != manifestBody {
				t.Errorf("manifest: %v", err)
			}
			if got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("blob: %d bytes, %v", len(got), err)
			}
			if asked := origin.count(repo) > 0; asked != tt.origin {
				t.Errorf("the upstream itself was asked: %t, want %t", asked, tt.origin)
			}
			if n := testutil.ToFloat64(c.metrics.failovers); (n > 0) != tt.origin {
				t.Errorf("counted %v failovers", n)
			}
		})
	}
}

// TestMirrorsAnswerIsNotFinal holds that only the upstream itself can say that
// something is not there, and that a mirror's refusal does not stand for its
// silence.
func TestMirrorsAnswerIsNotFinal(t *testing.T) {
	mirror, origin := newRegistry(t), newRegistry(t)
	c := newClient(t, origin.URL, mirrors(t, mirror.URL))
	if _, err := c.Manifest(t.Context(), repo, tag("none")); !IsNotFound(err) || origin.count("none") != 1 {
		t.Errorf("nowhere: %v, the upstream was asked %d times", err, origin.count("none"))
	}
	origin.Close()
	if _, err := c.Manifest(t.Context(), repo, tag("none")); IsNotFound(err) || !IsUnavailable(err) {
		t.Errorf("with the upstream down: %v", err)
	}
}

// TestFailoverMidPull takes a blob of which each of two mirrors sends a part and
// then nothing more.
func TestFailoverMidPull(t *testing.T) {
	data := randomBytes(900_000)
	for name, harm := range map[string]func(w http.ResponseWriter, r *http.Request){
		"cut":   func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"stall": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			regs := []*registry{newRegistry(t), newRegistry(t), newRegistry(t)}
			var starts []string
			for n, reg := range regs {
				reg.addBlob(data)
				if n == 2 {
					break
				}
				reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, "/blobs/") {
						return false
					}
					off, end := asked(r, len(data))
					w.Header().Set("Content-Range", oci.Range{Off: int64(off), End: int64(end)}.ContentRange(int64(len(data))))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(data[off:min(off+300_000, end)])
					_ = http.NewResponseController(w).Flush()
					harm(w, r)
					return true
				}
			}
			d := regs[2].addBlob(data)
			c := newClient(t, regs[2].URL, mirrors(t, regs[0].URL, regs[1].URL), func(o *Options) { o.StallTimeout = 50 * time.Millisecond })
			got, err := readBlob(t, c, d, oci.Range{Off: 10, End: 850_000})
			if err != nil || !bytes.Equal(got, data[10:850_000]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			for _, reg := range regs {
				for _, r := range reg.requests() {
					if strings.Contains(r.URL.Path, "/blobs/") {
						starts = append(starts, r.Header.Get("Range"))
					}
				}
			}
			if len(starts) < 3 || starts[0] != "bytes=10-849999" || starts[1] == starts[0] {
				t.Errorf("asked for %v", starts)
			}
		})
	}
}

// TestMirrorDoesNotSayWhoMayRead holds that in a caller's name the upstream
// itself is asked, whatever mirrors would say.
func TestMirrorDoesNotSayWhoMayRead(t *testing.T) {
	mirror, origin := newRegistry(t), newRegistry(t)
	d := mirror.addBlob([]byte("secret"))
	c := newClient(t, origin.URL, mirrors(t, mirror.URL))
	if _, err := c.HeadBlob(As(t.Context(), c.NewCaller()), repo, d); err == nil {
		t.Error("what only the mirror has was found")
	}
	if n := mirror.count("blobs"); n != 0 {
		t.Errorf("the mirror was asked %d times", n)
	}
}

// TestMirrorLies holds that a manifest which is not what its digest says comes
// from the upstream itself then.
func TestMirrorLies(t *testing.T) {
	mirror, origin := newRegistry(t), newRegistry(t)
	d := origin.addBlob([]byte(manifestBody)).String()
	origin.manifests[d], mirror.manifests[d] = []byte(manifestBody), []byte(`{"lies":1}`)
	c := newClient(t, origin.URL, mirrors(t, mirror.URL))
	ref, err := oci.ParseReference(d)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.Manifest(t.Context(), repo, ref); err != nil || string(m.Body) != manifestBody {
		t.Errorf("got %v", err)
	}
}

// TestMirrorInTroubleIsPassedOver holds that one which does not answer costs the
// first requests some time, and not every one.
func TestMirrorInTroubleIsPassedOver(t *testing.T) {
	mirror, origin := newRegistry(t), newRegistry(t)
	mirror.hook = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(500); return true }
	origin.manifests["v1"] = []byte(manifestBody)
	c := newClient(t, origin.URL, mirrors(t, mirror.URL))
	for range 20 {
		if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(mirror.requests()); n != 5 {
		t.Errorf("asked the broken mirror %d times, want 5", n)
	}
	if h := c.Health(); len(h) != 2 || h[0].State != "down" || h[1].State != "ok" || h[0].Endpoint != mirror.URL {
		t.Errorf("health is %+v", h)
	}
}

// TestMirrorUnderAPath asks a mirror that has the upstream's repositories below
// a name of its own, and gives it neither credentials nor headers of the
// upstream's.
func TestMirrorUnderAPath(t *testing.T) {
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Team") != "" {
			t.Error("a header reached the storage behind a redirect")
		}
		_, _ = w.Write([]byte("layer"))
	}))
	defer storage.Close()
	var paths atomic.Int32
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Team") != "" {
			t.Error("the upstream's credentials or headers reached a mirror")
		}
		switch {
		case r.URL.Path == "/v2/":
		case strings.HasPrefix(r.URL.Path, "/v2/hub/docker.io/"+repo+"/blobs/"):
			paths.Add(1)
			http.Redirect(w, r, storage.URL+"/x", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(404)
		}
	}))
	defer mirror.Close()
	origin := newRegistry(t)
	d := origin.addBlob([]byte("layer"))
	c := newClient(t, origin.URL, mirrors(t, mirror.URL+"/hub/docker.io/"), credentials("robot", "secret"),
		func(o *Options) { o.Header = http.Header{"X-Team": {"a"}} })
	if got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err != nil || string(got) != "layer" {
		t.Errorf("got %q, %v", got, err)
	}
	if n := paths.Load(); n != 1 || origin.count("blobs") != 0 {
		t.Errorf("asked the mirror %d times, the upstream %d times", n, origin.count("blobs"))
	}
}

// TestSignedURLExpires breaks a transfer after which the storage refuses the
// signed URL: the registry is asked for a new one.
func TestSignedURLExpires(t *testing.T) {
	data := randomBytes(500_000)
	for _, status := range []int{400, 401, 403} {
		var signed, used atomic.Int32
		storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch used.Add(1) {
			case 1:
				w.Header().Set("Content-Length", "500000")
				_, _ = w.Write(data[:300_000])
				panic(http.ErrAbortHandler)
			case 2:
				w.WriteHeader(status) // the time is over
			default:
				proper(w, r, data)
			}
		}))
		reg := newRegistry(t)
		reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			signed.Add(1)
			http.Redirect(w, r, storage.URL+"/blob?signature=x", http.StatusTemporaryRedirect)
			return true
		}
		c := newClient(t, reg.URL)
		got, err := readBlob(t, c, reg.addBlob(data), oci.Range{Off: 0, End: -1})
		if err != nil || !bytes.Equal(got, data) || signed.Load() != 3 {
			t.Errorf("%d: %d bytes, %v, %d URLs were signed", status, len(got), err, signed.Load())
		}
		storage.Close()
	}
}

// keychainOf is a keychain of one host.
type keychainOf struct {
	host string
	auth authn.Authenticator
	err  error
}

func (k keychainOf) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if k.err != nil || r.RegistryStr() != k.host {
		return authn.Anonymous, k.err
	}
	return k.auth, nil
}

// TestKeychain asks with what a keychain has at that moment, each host with its
// own.
func TestKeychain(t *testing.T) {
	var got atomic.Value
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte(manifestBody)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		u, p, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return true
		}
		got.Store(u + ":" + p)
		return false
	}
	chain := &keychainOf{host: strings.TrimPrefix(reg.URL, "http://"), auth: &authn.Basic{Username: "AWS", Password: "one"}}
	c := newClient(t, reg.URL, func(o *Options) { o.Keychain = chain })
	for _, want := range []string{"one", "two"} {
		chain.auth = &authn.Basic{Username: "AWS", Password: want}
		if _, err := c.Manifest(t.Context(), repo, tag("v1")); err != nil || got.Load() != "AWS:"+want {
			t.Errorf("%v, asked as %v, want AWS:%s", err, got.Load(), want)
		}
	}
	if !c.HasCredentials() {
		t.Error("a keychain is no credentials")
	}
	chain.err = errors.New("the helper is not there")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Manifest(ctx, repo, tag("v1")); !IsUnavailable(err) || IsDenied(err) || !strings.Contains(err.Error(), "the helper is not there") {
		t.Errorf("without the helper: %v", err)
	}
}

// TestWrongBytes: whoever sent wrong bytes of a blob is asked after the others,
// also for its size, and comes first again for other blobs after a pause.
func TestWrongBytes(t *testing.T) {
	good, other := randomBytes(100_000), randomBytes(50_000)
	bad := bytes.Clone(good)
	bad[7] ^= 1
	origin, mirror := newRegistry(t), newRegistry(t)
	d, d2 := origin.addBlob(good), origin.addBlob(other)
	mirror.addBlob(other)
	mirror.hook = func(w http.ResponseWriter, r *http.Request) bool {
		wrong := strings.HasSuffix(r.URL.Path, d.String())
		if wrong {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
		}
		return wrong
	}
	c := newClient(t, origin.URL, mirrors(t, mirror.URL))
	read := func(d digest.Digest) []byte {
		t.Helper()
		got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	asked := func() int { return mirror.count("/blobs/") }
	if got := read(d); !bytes.Equal(got, bad) {
		t.Fatalf("the first answer is not the mirror's: %d bytes", len(got))
	}
	c.Reject(d)
	before := asked()
	if got := read(d); !bytes.Equal(got, good) {
		t.Error("the mirror is asked again for what it sent wrongly")
	}
	if _, err := c.HeadBlob(t.Context(), repo, d); err != nil {
		t.Errorf("size: %v", err)
	}
	read(d2)
	if got := asked() - before; got != 0 {
		t.Errorf("the mirror was asked %d times", got)
	}
	c.ends[0].gate.mu.Lock()
	c.ends[0].gate.doubted = time.Now() // the pause is over
	c.ends[0].gate.mu.Unlock()
	read(d2)
	if got := asked() - before; got != 1 {
		t.Errorf("after the pause the mirror was asked %d times for another blob, want once", got)
	}
	origin.hook = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	if got := read(d); !bytes.Equal(got, bad) {
		t.Error("nobody else answers, and the mirror is not asked")
	}
}
