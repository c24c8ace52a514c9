package access

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Forwarded gives r as its client sent it, where a proxy of Policy.TrustedProxies
// passed it on: its RemoteAddr is then the client's address, without a port, out
// of X-Forwarded-For. Other senders' headers say nothing.
func (a *Access) Forwarded(r *http.Request) *http.Request {
	trusted := a.policy.Load().TrustedProxies
	if len(trusted) == 0 {
		return r
	}
	peer := r.RemoteAddr
	if host, _, err := net.SplitHostPort(peer); err == nil {
		peer = host
	}
	client, ok := forwardedFor(trusted, peer, r.Header.Values("X-Forwarded-For"))
	if !ok {
		return r
	}
	out := *r
	out.RemoteAddr = client.String()
	return &out
}

// forwardedFor goes from peer back through what each proxy says whom it had the
// request from, as long as these are trusted: what stands before the first who is
// not can be anything. What is no address ends it, too. ok: it is not peer itself.
func forwardedFor(trusted []netip.Prefix, peer string, values []string) (client netip.Addr, ok bool) {
	client, err := netip.ParseAddr(peer)
	if err != nil || !trusts(trusted, client) {
		return netip.Addr{}, false
	}
	for _, v := range slices.Backward(values) {
		for rest, more := v, true; more; {
			var last string
			if i := strings.LastIndexByte(rest, ','); i >= 0 {
				rest, last = rest[:i], rest[i+1:]
			} else {
				last, more = rest, false
			}
			from, err := parseHop(strings.Trim(last, " \t"))
			if err != nil {
				return client, ok
			}
			if client, ok = from, true; !trusts(trusted, from) {
				return client, true
			}
		}
	}
	return client, ok
}

// parseHop reads an address, which some proxies write with its port, in brackets
// or in quotes, as Forwarded has it (RFC 7239 §6).
func parseHop(s string) (netip.Addr, error) {
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	if n := len(s); n >= 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil && a.Is6() {
			return a.Unmap().WithZone(""), nil
		}
	}
	if p, err := netip.ParseAddrPort(s); err == nil {
		s = p.Addr().String()
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err
}

func trusts(trusted []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}
