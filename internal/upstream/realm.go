package upstream

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/net/publicsuffix"
)

// checkRealm decides whether the token service that the upstream names may be
// asked. It never is one on plain HTTP for an upstream on HTTPS. Where there
// are credentials to be sent, it also has to be on the upstream's registrable
// domain, or listed; on plain HTTP, on the upstream's own host, or listed.
// Asked without credentials it can be anywhere public: it learns nothing.
func (a *authorizer) checkRealm(realm string, creds authn.Authenticator) (*url.URL, error) {
	refuse := func(why string) error {
		return &PolicyError{Upstream: a.upstream, Reason: why}
	}
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, refuse("names no usable token service")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && a.root.Scheme == "http":
	default:
		return nil, refuse("names the token service " + u.Scheme + "://" + u.Host + ", which is not https")
	}
	if creds == authn.Anonymous || a.listed(u) {
		return u, nil
	}
	if u.Scheme == "http" && !strings.EqualFold(u.Hostname(), a.root.Hostname()) {
		return nil, refuse("names the token service http://" + u.Host +
			": credentials don't go to another host in plain text; list it in token_realms if they should")
	}
	if !sameDomain(u.Hostname(), a.root.Hostname()) {
		return nil, refuse("names the token service " + u.Host +
			", which is of another domain: credentials are not sent there; list it in token_realms if they should be")
	}
	return u, nil
}

// listed reports whether u is one of the realms that the operator named, as
// host or host:port.
func (a *authorizer) listed(u *url.URL) bool {
	for _, r := range a.realms {
		if _, _, err := net.SplitHostPort(r); err == nil {
			if strings.EqualFold(r, hostPort(u)) {
				return true
			}
		} else if strings.EqualFold(r, u.Hostname()) {
			return true
		}
	}
	return false
}

// sameDomain reports whether two hosts are registered by the same owner, by the
// public suffix list. Addresses and names without a dot are their own domain.
func sameDomain(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	if a == b {
		return true
	}
	for _, h := range []string{a, b} {
		if _, err := netip.ParseAddr(h); err == nil {
			return false
		}
	}
	da, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	db, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && da == db
}
