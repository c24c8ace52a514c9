package upstream

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

func TestReachOf(t *testing.T) {
	for addr, want := range map[string]reach{
		"8.8.8.8": reachPublic, "2001:4860:4860::8888": reachPublic, "::ffff:8.8.8.8": reachPublic, "64:ff9b::808:808": reachPublic,
		"10.1.2.3": reachPrivate, "172.16.0.1": reachPrivate, "192.168.1.1": reachPrivate, "fd00::1": reachPrivate,
		"100.100.100.201": reachPrivate, "::ffff:10.0.0.1": reachPrivate, "64:ff9b::a00:1": reachPrivate, "fec0::1": reachPrivate,
		"127.0.0.1": reachLoopback, "127.9.9.9": reachLoopback, "::1": reachLoopback, "0.0.0.0": reachLoopback, "::": reachLoopback,
		"0.1.2.3": reachLoopback, "::ffff:127.0.0.1": reachLoopback, "64:ff9b::7f00:1": reachLoopback, "2002:7f00:1::": reachLoopback,
		"fe80::1": reachLinkLocal, "fe80::1%eth0": reachLinkLocal,
		"224.0.0.1": reachNever, "ff02::1": reachNever, "255.255.255.255": reachNever, "240.0.0.1": reachNever,
		"169.254.169.254": reachNever, "::ffff:169.254.169.254": reachNever, "100.100.100.200": reachNever, "fd00:ec2::254": reachNever,
		"fd20:ce::254": reachNever, "64:ff9b::a9fe:a9fe": reachNever, "::169.254.169.254": reachNever,
		"168.63.129.16": reachPrivate, "192.0.0.192": reachPrivate, "198.18.0.1": reachPrivate, "198.19.255.255": reachPrivate,
		"64:ff9b:1::7f00:1": reachPrivate, "::8.8.8.8": reachPrivate, "::127.0.0.1": reachLoopback,
	} {
		if got := reachOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %d, want %d", addr, got, want)
		}
	}
	if got := reachOf(netip.Addr{}); got != reachNever {
		t.Errorf("no address: got %d", got)
	}
}

func TestAllows(t *testing.T) {
	for home, want := range map[reach][]reach{
		reachPublic:    {reachPublic},
		reachPrivate:   {reachPublic, reachPrivate},
		reachLoopback:  {reachPublic, reachPrivate, reachLoopback},
		reachLinkLocal: {reachPublic, reachPrivate, reachLinkLocal},
		reachNever:     {reachPublic},
	} {
		var g guard
		g.home.Store(uint32(home))
		for r := reachPublic; r <= reachNever; r++ {
			expect := strings.ContainsRune(string(toRunes(want)), rune('a'+r))
			if got := g.allows(r); got != expect {
				t.Errorf("from %d to %d: allowed %v, want %v", home, r, got, expect)
			}
		}
	}
}

func toRunes(rs []reach) (out []rune) {
	for _, r := range rs {
		out = append(out, rune('a'+r))
	}
	return out
}

// redirecting makes reg send every blob request on to where to says.
func redirecting(reg *registry, to func(r *http.Request) string) {
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if target := to(r); target != "" {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
}

func TestRedirectToStorage(t *testing.T) {
	data := randomBytes(1000)
	for _, tls := range []bool{false, true} {
		start := (*httptest.Server).Start
		if tls {
			start = (*httptest.Server).StartTLS
		}
		ts, reg, storage := newTokenService(t, start), startRegistry(t, start), startRegistry(t, start)
		ts.user, ts.password = "robot", "secret"
		d := storage.addBlob(data)
		redirecting(reg, func(r *http.Request) string { return storage.URL + r.URL.Path + "?signature=s3cr3t" })
		guarded(reg, ts)
		c := newClient(t, reg.URL, credentials("robot", "secret"), func(o *Options) {
			if tls {
				o.RootCAs = rootCAs(ts.Server, reg.Server, storage.Server)
			}
		})
		got, err := readBlob(t, c, d, oci.Range{Off: 10, End: 20})
		if err != nil || string(got) != string(data[10:20]) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if size, err := c.HeadBlob(t.Context(), repo, d); err != nil || size != int64(len(data)) {
			t.Errorf("got %d, %v", size, err)
		}
		if n := storage.count("/blobs/"); n != 2 {
			t.Errorf("the storage was asked %d times, want twice", n)
		}
		for _, r := range storage.requests() {
			for _, h := range []string{"Authorization", "Referer", "Cookie"} {
				if v := r.Header.Get(h); v != "" {
					t.Errorf("the storage got %s %q", h, v)
				}
			}
			if ua := r.Header.Get("User-Agent"); ua != "sociable" {
				t.Errorf("the storage got User-Agent %q", ua)
			}
		}
		for _, r := range reg.requests() {
			if strings.Contains(r.URL.Path, "/blobs/") && !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
				t.Errorf("the registry got Authorization %q", r.Header.Get("Authorization"))
			}
		}
	}
}

// A host that sends us back to the registry chooses what is read there: not
// with our credentials.
func TestRedirectBackLosesCredentials(t *testing.T) {
	ts, reg, bouncer := newTokenService(t, (*httptest.Server).Start), newRegistry(t), newRegistry(t)
	d := reg.addBlob([]byte("x"))
	redirecting(bouncer, func(*http.Request) string { return reg.URL + "/v2/private/blobs/" + d.String() })
	redirecting(reg, func(r *http.Request) string {
		if strings.Contains(r.URL.Path, repo) {
			return bouncer.URL + r.URL.Path
		}
		return ""
	})
	guarded(reg, ts)
	_, err := newClient(t, reg.URL).Blob(t.Context(), repo, d, oci.Range{Off: 0, End: -1})
	if !IsDenied(err) {
		t.Errorf("got %v", err)
	}
	for _, r := range reg.requests() {
		if a := r.Header.Get("Authorization"); strings.Contains(r.URL.Path, "private") && a != "" {
			t.Errorf("%s was asked with %q", r.URL.Path, a)
		}
	}
	if reg.count("private") == 0 {
		t.Error("the redirect back was not followed")
	}
}

// Within the upstream a redirect changes nothing.
func TestRedirectWithinTheUpstream(t *testing.T) {
	ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
	d := reg.addBlob([]byte("x"))
	redirecting(reg, func(r *http.Request) string {
		if r.URL.RawQuery == "" {
			return r.URL.Path + "?again"
		}
		return ""
	})
	guarded(reg, ts)
	if got, err := readBlob(t, newClient(t, reg.URL), d, oci.Range{Off: 0, End: -1}); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
	if n := reg.count("/blobs/"); n != 2 {
		t.Errorf("asked %d times, want twice", n)
	}
}

// A token and a signed URL that end in the middle of a blob are renewed.
func TestResumesWithNewToken(t *testing.T) {
	data := randomBytes(faultySize)
	ts, reg, storage := newTokenService(t, (*httptest.Server).Start), newRegistry(t), newRegistry(t)
	d := storage.addBlob(data)
	var signatures atomic.Int32
	redirecting(reg, func(r *http.Request) string {
		return storage.URL + r.URL.Path + "?signature=" + strconv.Itoa(int(signatures.Add(1)))
	})
	guarded(reg, ts)
	used := map[string]bool{}
	storage.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if used[r.URL.RawQuery] {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		used[r.URL.RawQuery] = true
		ts.revoke()
		if len(used) < 4 {
			cut(w, r, data, 20_000)
		}
		return false
	}
	got, err := readBlob(t, newClient(t, reg.URL), d, oci.Range{Off: 0, End: -1})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if n := ts.issued.Load(); n != 4 {
		t.Errorf("%d tokens, want 4", n)
	}
}

func TestRedirectLoop(t *testing.T) {
	reg := newRegistry(t)
	redirecting(reg, func(r *http.Request) string { return r.URL.Path })
	c := newClient(t, reg.URL)
	_, err := c.Blob(t.Context(), repo, reg.addBlob(nil), oci.Range{Off: 0, End: -1})
	if !is[*PolicyError](err) || !IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if n := reg.count("/blobs/"); n != maxRedirects+1 {
		t.Errorf("asked %d times, want %d", n, maxRedirects+1)
	}
}

func TestRedirectDownFromHTTPS(t *testing.T) {
	plain := newRegistry(t)
	for _, tc := range []struct{ name, to string }{
		{"to http", plain.URL},
		{"to another scheme", "ftp://127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := startRegistry(t, (*httptest.Server).StartTLS)
			redirecting(reg, func(r *http.Request) string { return tc.to + r.URL.Path })
			c := newClient(t, reg.URL, func(o *Options) { o.RootCAs = rootCAs(reg.Server) })
			_, err := c.Blob(t.Context(), repo, plain.addBlob(nil), oci.Range{Off: 0, End: -1})
			if !is[*PolicyError](err) {
				t.Errorf("got %v", err)
			}
			if n := len(plain.requests()); n != 0 {
				t.Errorf("the plain server was asked %d times", n)
			}
			if n := reg.count("/blobs/"); n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
		})
	}
}

func TestRedirectUpToHTTPS(t *testing.T) {
	reg, storage := newRegistry(t), startRegistry(t, (*httptest.Server).StartTLS)
	d := storage.addBlob([]byte("x"))
	redirecting(reg, func(r *http.Request) string { return storage.URL + r.URL.Path })
	c := newClient(t, reg.URL, func(o *Options) { o.RootCAs = rootCAs(storage.Server) })
	if got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

// pretend makes c take the server at root for one with a public address.
func pretend(t *testing.T, c *Client, root string) {
	t.Helper()
	u, err := url.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	c.ends[0].guard.classify = func(a netip.AddrPort) reach {
		if a.String() == u.Host {
			return reachPublic
		}
		return reachOf(a.Addr())
	}
}

// A public upstream leads to no address of ours, by redirect or as a token
// service, by number or by name.
func TestPublicUpstreamStaysOutside(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"} {
		t.Run(host, func(t *testing.T) {
			inside := newTokenService(t, (*httptest.Server).Start)
			target := strings.Replace(inside.URL, "127.0.0.1", host, 1)

			reg := newRegistry(t)
			redirecting(reg, func(r *http.Request) string { return target + r.URL.Path })
			c := newClient(t, reg.URL)
			pretend(t, c, reg.URL)
			_, err := c.Blob(t.Context(), repo, reg.addBlob(nil), oci.Range{Off: 0, End: -1})
			if !is[*PolicyError](err) {
				t.Errorf("redirected: got %v", err)
			}

			reg = newRegistry(t)
			inside.URL = target
			guarded(reg, inside)
			c = newClient(t, reg.URL)
			pretend(t, c, reg.URL)
			_, err = c.Blob(t.Context(), repo, reg.addBlob(nil), oci.Range{Off: 0, End: -1})
			if !is[*PolicyError](err) {
				t.Errorf("token service: got %v", err)
			}
			if n := inside.issued.Load(); n != 0 {
				t.Errorf("the inside was asked %d times", n)
			}
		})
	}
}

func TestThroughAProxy(t *testing.T) {
	data := []byte("some bytes")
	reg := newRegistry(t) // as a plain HTTP proxy, it is asked for absolute URLs
	d := reg.addBlob(data)
	target := ""
	redirecting(reg, func(*http.Request) string { return target })
	proxy, err := url.Parse(reg.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "http://registry.example", func(o *Options) { o.Proxy = http.ProxyURL(proxy) })
	if got, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); err != nil || string(got) != string(data) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, target = range []string{
		"http://127.0.0.1/x", "http://[::1]/x", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/x", "http://localhost/x",
		"http://2130706433/x", "http://127.1/x", "http://0x7f000001/x", "http://a.localhost./x",
	} {
		before := len(reg.requests())
		if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); !is[*PolicyError](err) {
			t.Errorf("redirected to %s: got %v", target, err)
		}
		if n := len(reg.requests()) - before; n != 1 {
			t.Errorf("redirected to %s: the proxy was asked %d times, want once", target, n)
		}
	}
	target = "http://storage.example/x" // who that is, only the proxy knows
	if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); !IsNotFound(err) {
		t.Errorf("redirected to %s: got %v", target, err)
	}
	if reg.requests()[0].Host != "registry.example" {
		t.Errorf("the proxy was asked for %q", reg.requests()[0].Host)
	}
	// An upstream that was configured by its address lives there, whoever dials.
	c = newClient(t, "http://10.1.2.3:5000", func(o *Options) { o.Proxy = http.ProxyURL(proxy) })
	for to, allowed := range map[string]bool{"http://10.0.0.1/x": true, "http://127.0.0.1/x": false, "http://169.254.169.254/x": false} {
		target = to
		if _, err := readBlob(t, c, d, oci.Range{Off: 0, End: -1}); is[*PolicyError](err) == allowed {
			t.Errorf("led from a private address to %s: %v", to, err)
		}
	}
}

func TestTokenServiceRedirects(t *testing.T) {
	for host, followed := range map[string]bool{"localhost": true, "127.0.0.1": false} {
		elsewhere := newTokenService(t, (*httptest.Server).Start)
		ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
		ts.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if _, _, ok := r.BasicAuth(); !ok {
				t.Error("the token service got no credentials")
			}
			http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", host, 1)+"/token?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
			return true
		}
		elsewhere.hook = func(_ http.ResponseWriter, r *http.Request) bool {
			if a := r.Header.Get("Authorization"); a != "" {
				t.Errorf("another host got %q", a)
			}
			return false
		}
		guarded(reg, ts)
		c := newClient(t, reg.URL, credentials("robot", "secret"))
		_, err := c.ends[0].auth.authorize(t.Context(), repo, false)
		if followed != (err == nil) || (err != nil && (!is[*PolicyError](err) || strings.Contains(err.Error(), "scope="))) {
			t.Errorf("redirected to %s: got %v", host, err)
		}
		if n := elsewhere.issued.Load(); (n == 1) != followed {
			t.Errorf("%s was asked %d times", host, n)
		}
	}
}
