package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sociable/sociable/internal/access"
)

// resolver is the part of net.Resolver that is needed here.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// checkExposure refuses to hand out, to other machines, what only our own
// credentials can read, unless the configuration says in so many words who may
// have it.
func (c *Config) checkExposure(bad *findings) {
	if c.onLoopback || c.logins() {
		return
	}
	closed := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Upstreams)), func(name string) bool { return c.mode(name) != access.Closed })
	for _, name := range closed {
		path := "upstreams." + name
		bad.add(c.origin(path+".username"), "%s: %s is reachable from other machines, and whoever reaches it could pull what this upstream's credentials can; "+
			"if that is wanted, %s; to have them log in, set auth.htpasswd_file; or listen on 127.0.0.1", path, c.Listen, c.howToOpen(path))
	}
}

// howToOpen gives the line that allows what checkExposure refuses.
func (c *Config) howToOpen(path string) string {
	if o := c.origins[path]; o.line > 0 {
		return fmt.Sprintf("add the line %q to %s in %s", "access: open", path, o.source)
	}
	return fmt.Sprintf("set %s=open", envName(path+".access"))
}

// loopbackOnly reports whether only this machine can reach a listener on addr.
// A name counts by all the addresses it resolves to; one that does not resolve
// could be any.
func loopbackOnly(ctx context.Context, dns resolver, addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" { // "" is every interface
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ips, err := dns.LookupNetIP(ctx, "ip", host)
	beyond := func(ip netip.Addr) bool { return !ip.Unmap().IsLoopback() }
	return err == nil && len(ips) > 0 && !slices.ContainsFunc(ips, beyond)
}
