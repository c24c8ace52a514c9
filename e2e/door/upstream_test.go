package door

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
)

// guarded is a docker-registry behind TLS that wants to see a certificate of the
// authority's and a token of the token server's.
type guarded struct {
	*harness.Process
	addr   string
	a      *authority
	tokens *tokenServer
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{a: newAuthority(t)}
	g.tokens = newTokenServer(t, g.a)
	var err error
	if g.addr, err = harness.FreeAddr(); err != nil {
		t.Fatal(err)
	}
	cert, key := g.a.pair(t, "registry")
	file := filepath.Join(t.TempDir(), "config.yml")
	write(t, file, fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
http:
  addr: %q
  tls: {certificate: %q, key: %q, clientcas: [%q]}
auth:
  token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}
`, t.TempDir(), g.addr, cert, key, g.a.file(t), g.tokens.tls.URL+"/token", oldService, g.tokens.issuer, g.a.file(t)))
	if g.Process, err = harness.Spawn(context.WithoutCancel(t.Context()), nil, programs.DockerRegistry, "serve", file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stop docker-registry: %v", err)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for conn := net.Conn(nil); conn == nil; {
		select {
		case <-tick.C:
			conn, _ = net.Dial("tcp", g.addr)
			if conn != nil {
				_ = conn.Close()
			}
		case <-g.Exited():
			t.Fatalf("docker-registry ended:\n%s", g.Log())
		case <-t.Context().Done():
			t.Fatal("docker-registry does not listen")
		}
	}
	return g
}

// connectProxy is an HTTP proxy that only makes tunnels, for one user.
type connectProxy struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // host:port of each tunnel
}

func newConnectProxy(t *testing.T) *connectProxy {
	t.Helper()
	p := &connectProxy{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic cHJveHk6cGFzcw==" { // proxy:pass
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	there, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = there.Close()
		return
	}
	go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
	go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
}

// hosts are those that tunnels led to, each once.
func (p *connectProxy) hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(p.asked)))
}

// TestGuardedUpstream pulls from, and pushes to, a real registry that wants all
// that one can want, directly and through an HTTP proxy; and without any one part
// of it is told what is wrong.
func TestGuardedUpstream(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	g := startGuarded(t)
	tunnels := newConnectProxy(t)
	cert, key := g.a.pair(t, "sociable")
	stranger := newAuthority(t)
	strangersCert, strangersKey := stranger.pair(t, "sociable")
	all := map[string]string{
		"url": "https://" + g.addr, "ca_file": g.a.file(t), "client_cert_file": cert, "client_key_file": key,
		"username": "alice", "password": "wonder", "push": "allow", "retries": "0",
	}
	with := func(changes ...string) string {
		m := map[string]any{}
		for k, v := range all {
			m[k] = v
		}
		m["retries"] = 0
		for i := 0; i < len(changes); i += 2 {
			if m[changes[i]] = changes[i+1]; changes[i+1] == "" {
				delete(m, changes[i])
			}
			if changes[i+1] == "true" {
				m[changes[i]] = true
			}
		}
		text, err := json.Marshal(map[string]any{"upstreams": map[string]any{"up": m}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	img := newImage(t)
	first := startProxy(t, with())
	if err := clients["skopeo"](t).push(ctx, img, first.Addr+"/up/team/app:1"); err != nil {
		t.Fatalf("push through: %v", err)
	}
	g.tokens.take()
	through := "http://proxy:pass@" + strings.TrimPrefix(tunnels.URL, "http://")
	for name, config := range map[string]string{
		"directly":        with(),
		"through a proxy": with("proxy", through),
		"by a reader":     with("username", "bob", "password", "builder"),
		"any certificate": with("ca_file", "", "insecure_skip_verify", "true"),
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, config)
			for _, kind := range []string{"crane", "containerd"} {
				if got, err := clients[kind](t).pull(ctx, p.Addr+"/up/team/app:1"); err != nil || got != img.digest {
					t.Errorf("%s: %s, %v", kind, got, err)
				}
			}
			if asked := g.tokens.take(); len(asked) != 1 || !strings.HasSuffix(asked[0], " repository:team/app:pull") {
				t.Errorf("the token server was asked for %q, want one token", asked)
			}
			if name == "by a reader" { // whose pushes are refused by the registry
				if err := clients["skopeo"](t).push(ctx, newImage(t), p.Addr+"/up/team/app:2"); err == nil || !strings.Contains(strings.ToLower(err.Error()), "denied") {
					t.Errorf("a reader pushes: %v", err)
				}
				g.tokens.take()
			}
		})
	}
	if got, want := tunnels.hosts(), []string{g.addr, strings.TrimPrefix(g.tokens.tls.URL, "https://")}; !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("tunnels led to %q, want %q", got, want)
	}
	for name, tt := range map[string]struct {
		config string
		status int
		code   string
		log    string // regexp
	}{
		"no certificate":             {with("client_cert_file", "", "client_key_file", ""), 503, "UNAVAILABLE", "unreachable for ping"},
		"a stranger's certificate":   {with("client_cert_file", strangersCert, "client_key_file", strangersKey), 503, "UNAVAILABLE", "bad certificate|broken pipe|connection reset"}, // as what was being sent leaves it to tell
		"another authority":          {with("ca_file", stranger.file(t)), 503, "UNAVAILABLE", "certificate signed by unknown authority"},
		"a wrong password":           {with("password", "x"), 403, "DENIED", "401"},
		"nobody":                     {with("username", "", "password", ""), 403, "DENIED", "401"},
		"a proxy that wants a login": {with("proxy", tunnels.URL), 503, "UNAVAILABLE", "Proxy Authentication Required"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, tt.config)
			resp, err := http.Get("http://" + p.Addr + "/v2/up/team/app/manifests/1")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.code) {
				t.Errorf("%s %s, %v; want %d %s", resp.Status, body, err, tt.status, tt.code)
			}
			says := regexp.MustCompile(tt.log)
			eventually(t, "a log that says "+tt.log, func() bool { return says.MatchString(p.Log()) })
			if log := p.Log(); strings.Contains(log, "wonder") || strings.Contains(log, "proxy:pass") {
				t.Errorf("the log tells a secret:\n%s", log)
			}
		})
	}
}
