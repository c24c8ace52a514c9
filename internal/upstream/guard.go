package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const maxRedirects = 10

// guard stands between every request and the network: redirects, and whatever
// else an upstream's answers make us dial, go only where they may.
type guard struct {
	upstream  string
	host      string // the upstream's, see hostPort
	userAgent string
	header    http.Header // for the upstream alone
	dialer    net.Dialer
	proxy     func(*http.Request) (*url.URL, error)
	name      string            // the upstream's host without its port: a token service may be at another
	base      http.RoundTripper // to the upstream's host
	others    http.RoundTripper // to all others, which are verified and shown no certificate

	proxies sync.Map      // hostPort of every HTTP proxy in use → struct{}
	home    atomic.Uint32 // reach of the address where the upstream last answered

	classify func(netip.AddrPort) reach // reachOf, but in tests
}

func newGuard(o Options) *guard {
	g := &guard{
		upstream: o.Name, host: hostPort(o.URL), name: o.URL.Hostname(), userAgent: o.UserAgent, header: o.Header, proxy: o.Proxy,
		dialer:   net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second},
		classify: func(a netip.AddrPort) reach { return reachOf(a.Addr()) },
	}
	// Where an HTTP proxy dials, what the operator wrote is all that is known.
	if a, err := netip.ParseAddr(o.URL.Hostname()); err == nil {
		g.home.Store(uint32(reachOf(a)))
	}
	return g
}

// RoundTrip refuses a redirect that leads astray, takes credentials off one
// that leads to another origin, and sends everything else on.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	first, strayed, err := g.follow(req)
	if err == nil {
		err = g.checkProxied(req)
	}
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // nothing was sent, nothing can be lost
		}
		return nil, err
	}
	ctx := req.Context()
	if p, _ := g.proxyFor(req); p == nil && req == first && hostPort(req.URL) == g.host {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: g.gotConn})
	}
	out := req.Clone(ctx)
	out.Header.Set("User-Agent", g.userAgent)
	if !strayed && hostPort(req.URL) == g.host {
		for k, v := range g.header {
			out.Header[k] = v
		}
	}
	if strayed {
		for k := range g.header { // net/http copies what the first request had
			out.Header.Del(k)
		}
		out.Header.Del("Authorization")
		out.Header.Del("Cookie")
	}
	out.Header.Del("Referer") // tells the storage behind a registry who asks for what
	if !strings.EqualFold(req.URL.Hostname(), g.name) {
		return g.others.RoundTrip(out)
	}
	return g.base.RoundTrip(out)
}

// follow checks the redirects that led to req. first is the request that they
// began with, strayed whether any of them left its origin: coming back gives
// nothing back, because somebody else chose the path.
func (g *guard) follow(req *http.Request) (first *http.Request, strayed bool, err error) {
	first = req
	for n := 0; first.Response != nil && first.Response.Request != nil; n++ {
		prev := first.Response.Request
		if n == maxRedirects {
			return nil, false, g.refuse("more than %d redirects", maxRedirects)
		}
		if first.URL.Scheme != "https" && (first.URL.Scheme != "http" || prev.URL.Scheme != "http") {
			return nil, false, g.refuse("redirect from %s://%s down to %s://%s",
				prev.URL.Scheme, prev.URL.Host, first.URL.Scheme, first.URL.Host)
		}
		if first.URL.Scheme != prev.URL.Scheme || hostPort(first.URL) != hostPort(prev.URL) {
			strayed = true
		}
		first = prev
	}
	return first, strayed, nil
}

// checkProxied stands in for check where an HTTP proxy does the dialling and
// only the name is known here.
func (g *guard) checkProxied(req *http.Request) error {
	if hostPort(req.URL) == g.host {
		return nil
	}
	if p, err := g.proxyFor(req); err != nil || p == nil {
		return nil //nolint:nilerr // an error comes back from the transport
	}
	host := strings.TrimSuffix(req.URL.Hostname(), ".")
	a, err := netip.ParseAddr(host)
	if err != nil {
		// A name that ends in a number is none: some resolvers read it as an
		// address (inet_aton(3)).
		last := host[strings.LastIndexByte(host, '.')+1:]
		if last == "localhost" || (last != "" && last[0] >= '0' && last[0] <= '9') {
			return g.refuse("leads to %s", host)
		}
		return nil
	}
	if !g.allows(reachOf(a)) {
		return g.refuse("leads to the address %s, which is not public", a)
	}
	return nil
}

// proxyFor is the HTTP proxy for req, or nil. It is remembered: dialling it is
// the operator's wish.
func (g *guard) proxyFor(req *http.Request) (*url.URL, error) {
	u, err := g.proxy(req)
	if u != nil {
		g.proxies.Store(hostPort(u), struct{}{})
	}
	return u, err
}

func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := g.dialer
	addr = strings.ToLower(addr)
	if _, isProxy := g.proxies.Load(addr); addr != g.host && !isProxy {
		d.Control = g.check
	}
	return d.DialContext(ctx, network, addr)
}

// check is called with every address that a stranger's name resolved to, before
// it is dialled: looking the name up beforehand could give another answer.
func (g *guard) check(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !g.allows(g.classify(a)) {
		return g.refuse("leads to the address %s, which is not public", address)
	}
	return nil
}

// gotConn notes where the upstream lives, once it has proved its name.
func (g *guard) gotConn(info httptrace.GotConnInfo) {
	if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
		g.home.Store(uint32(g.classify(a)))
	}
}

func (g *guard) refuse(format string, args ...any) error {
	return &PolicyError{Upstream: g.upstream, Reason: fmt.Sprintf(format, args...)}
}

// reach is from where an address can be reached.
type reach uint32

const (
	reachPublic    reach = iota
	reachPrivate         // the organisation's network
	reachLoopback        // this machine
	reachLinkLocal       // this wire
	reachNever           // no host's address, or where clouds keep instance credentials
)

// allows reports whether the upstream may send us to an address of reach r: to
// the public, or to where it lives itself, or, from this machine, to the
// network around it.
func (g *guard) allows(r reach) bool {
	home := reach(g.home.Load())
	switch r {
	case reachPublic:
		return true
	case reachPrivate:
		return home == reachPrivate || home == reachLoopback || home == reachLinkLocal
	case reachLoopback, reachLinkLocal:
		return home == r
	default:
		return false
	}
}

var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")     // RFC 791: dialled as loopback
	reserved    = netip.MustParsePrefix("240.0.0.0/4")   // RFC 1112 §4, broadcast included
	siteLocal   = netip.MustParsePrefix("fec0::/10")     // RFC 3879
	nat64       = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052
	sixToFour   = netip.MustParsePrefix("2002::/16")     // RFC 3056
	inIPv6      = netip.MustParsePrefix("::/96")         // RFC 4291 §2.5.5.1, with an IPv4 address at its end
)

// inside are more networks that are not the public's.
var inside = []netip.Prefix{
	netip.MustParsePrefix("192.0.0.0/24"),     // RFC 6890, with Oracle Cloud's metadata
	netip.MustParsePrefix("198.18.0.0/15"),    // RFC 2544
	netip.MustParsePrefix("64:ff9b:1::/48"),   // RFC 8215
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's hosts
}

// metadata are where clouds keep the credentials of whoever asks from an
// instance, besides 169.254.0.0/16. Only an upstream that is configured to be
// there is found there.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
}

func reachOf(a netip.Addr) reach {
	a = a.WithZone("").Unmap()
	if b := a.As16(); nat64.Contains(a) {
		a = netip.AddrFrom4([4]byte(b[12:]))
	} else if sixToFour.Contains(a) {
		a = netip.AddrFrom4([4]byte(b[2:6]))
	} else if inIPv6.Contains(a) && !a.IsLoopback() && !a.IsUnspecified() {
		return max(reachPrivate, reachOf(netip.AddrFrom4([4]byte(b[12:]))))
	}
	switch {
	case slices.Contains(metadata, a), a.Is4() && a.IsLinkLocalUnicast():
		return reachNever
	case a.IsLoopback(), a.IsUnspecified(), thisNetwork.Contains(a):
		return reachLoopback
	case a.IsLinkLocalUnicast():
		return reachLinkLocal
	case a.IsPrivate(), sharedSpace.Contains(a), siteLocal.Contains(a),
		slices.ContainsFunc(inside, func(p netip.Prefix) bool { return p.Contains(a) }):
		return reachPrivate
	case !a.IsValid(), a.IsMulticast(), reserved.Contains(a):
		return reachNever
	default:
		return reachPublic
	}
}

// hostPort is u's host and port in the form that a transport dials.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "https":
			port = "443"
		case "http":
			port = "80"
		case "socks5", "socks5h":
			port = "1080"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}
