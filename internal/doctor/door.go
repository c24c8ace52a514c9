package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sociable/sociable/internal/oci"
)

func (w *walk) dns(ctx context.Context) bool {
	host := strings.Trim(w.target.name(), "[]")
	if net.ParseIP(host) != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return w.tell(Fail, "dns", "see that the nodes' resolver knows the name, or name images by an address that it knows", "%s has no address: %v", host, err)
	}
	return w.tell(OK, "dns", "", "%s is %s", host, strings.Join(addrs, ", "))
}

// connect finds out which scheme the host speaks, as clients do: TLS, but
// on this machine.
func (w *walk) connect(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if w.target.isLocal() {
		if !w.dial(ctx, "http") {
			return false
		}
		w.use("http")
		return w.tell(OK, "connect", "", "%s takes connections; clients speak plain HTTP to it, since it is this machine", w.target.address("http"))
	}
	if !w.dial(ctx, "https") {
		return false
	}
	conf := w.tls()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", w.target.address("https"))
	if err != nil {
		return w.noTLS(err)
	}
	defer func() { _ = conn.Close() }() // it was only looked at
	w.use("https")
	state := conn.(*tls.Conn).ConnectionState()
	cert := state.PeerCertificates[0]
	if left := time.Until(cert.NotAfter); left < 14*24*time.Hour {
		return w.tell(Warn, "tls", "renew the certificate", "the certificate of %s ends at %s", w.target.host, cert.NotAfter.Format(time.RFC3339))
	}
	return w.tell(OK, "tls", "", "%s, certificate of %q until %s", tls.VersionName(state.Version), cert.Subject.CommonName, cert.NotAfter.Format(time.DateOnly))
}

func (w *walk) dial(ctx context.Context, scheme string) bool {
	addr := w.target.address(scheme)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return w.tell(Fail, "connect", "see that the proxy runs (sociable serve), that its listen address is not 127.0.0.1 for clients on other machines, and that no firewall is between; one that listens elsewhere is named by --proxy HOST:PORT",
			"%s takes no connection: %v", addr, err)
	}
	_ = conn.Close() // nothing was sent
	return true
}

// noTLS says why TLS did not work.
func (w *walk) noTLS(err error) bool {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		w.use("http")
		return w.tell(Warn, "tls", "set tls in the proxy's configuration; or have every client take plain HTTP from it: containerd by an http:// address in hosts.toml, "+
			"soci-snapshotter by [[resolver.host.\""+w.target.host+"\".mirrors]] with insecure = true", "%s speaks plain HTTP, which clients only do with this machine", w.target.host)
	case errors.As(err, &unknown):
		return w.tell(Fail, "tls", "put the authority's certificate into the nodes' trusted authorities (update-ca-certificates), and give it to this command with --ca-file",
			"the certificate of %s is of an authority that is not trusted here", w.target.host)
	case errors.As(err, &hostname):
		return w.tell(Fail, "tls", "get a certificate that has this name, or name images by a name that it has", "%v", hostname)
	}
	return w.tell(Fail, "tls", "see the proxy's log, and tls in its configuration", "TLS with %s: %v", w.target.host, err)
}

func (w *walk) tls() *tls.Config {
	if w.o.TLS == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return w.o.TLS.Clone()
}

func (w *walk) use(scheme string) {
	w.scheme = scheme
	w.plain = &http.Client{Transport: named{&http.Transport{
		TLSClientConfig: w.tls(), ResponseHeaderTimeout: stepTimeout, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
	}}}
	w.client = w.plain
}

// named says who asks, whatever has been said: the transport that logs in writes a
// name of its own, and what we read would count as a start.
type named struct{ http.RoundTripper }

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", oci.DoctorAgent)
	return n.RoundTripper.RoundTrip(r)
}

func (w *walk) url(format string, args ...any) string {
	return w.scheme + "://" + w.target.host + "/v2/" + fmt.Sprintf(format, args...)
}

func (w *walk) api(ctx context.Context) bool {
	a, err := w.get(ctx, w.plain, http.MethodGet, w.url(""), nil)
	if err != nil {
		return w.tell(Fail, "api", "see that it is a registry that answers there, and not something in front of it", "GET /v2/: %v", err)
	}
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		return w.tell(Fail, "api", "see that the path /v2/ is passed on to the proxy unchanged", "GET /v2/ answered %d", a.status)
	}
	if w.target.repo == "" {
		return w.tell(OK, "api", "", "it is a registry; name an image to have more looked at") && false
	}
	return w.tell(OK, "api", "", "it is a registry")
}

// authenticate gets a token as clients do, where one is wanted.
func (w *walk) authenticate(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	opts := []name.Option{}
	if w.scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(w.target.host+"/"+w.target.repo, opts...)
	if err != nil {
		return w.tell(Fail, "auth", "", "%v", err)
	}
	auth := authn.Anonymous
	if w.o.Keychain != nil {
		if auth, err = authn.Resolve(ctx, w.o.Keychain, repo); err != nil {
			return w.tell(Fail, "auth", "mend the credential helper that Docker's configuration names", "credentials for %s: %v", w.target.host, err)
		}
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, auth, w.plain.Transport, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		who := "nobody in particular"
		if auth != authn.Anonymous {
			who = "the credentials that Docker's configuration has"
		}
		return w.tell(Fail, "auth", "log in (docker login "+w.target.host+"); a node's soci-snapshotter needs credentials, too: Docker's configuration of root, or [cri_keychain]",
			"no token for %s: %v", who, err)
	}
	w.client = &http.Client{Transport: rt}
	if auth == authn.Anonymous {
		return w.tell(OK, "auth", "", "without credentials")
	}
	return w.tell(OK, "auth", "", "with the credentials of %s in Docker's configuration", w.target.host)
}

// answer is what came of a request: its head, and as much of the body as was
// asked for.
type answer struct {
	status int
	header http.Header
	body   []byte
	head   time.Duration // until the header was there
}

// get sends a request and reads its answer, as far as maxBody.
func (w *walk) get(ctx context.Context, c *http.Client, method, url string, header map[string]string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return answer{}, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header, head: time.Since(began)}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return a, err
}
