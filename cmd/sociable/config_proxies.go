package main

import (
	"fmt"
	"net/netip"
)

// checkProxies reads auth.trusted_proxies.
func (c *Config) checkProxies(bad, doubts *findings) {
	c.Auth.proxies = nil
	for i, s := range c.Auth.TrustedProxies {
		path := fmt.Sprintf("auth.trusted_proxies[%d]", i)
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil || a.Zone() != "" {
				bad.add(c.origin(path), "%s: %q is no network; write 192.0.2.0/28, or an address, that only load balancers have", path, s)
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			bad.add(c.origin(path), "%s: write %q as IPv4", path, s)
			continue
		}
		if p.Bits() == 0 {
			doubts.add(c.origin(path), "%s: everybody can say to be anybody", path)
		}
		c.Auth.proxies = append(c.Auth.proxies, p.Masked())
	}
}
