package main

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/sociable/sociable/internal/access"
)

type fakeDNS map[string][]netip.Addr

func (f fakeDNS) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if ips, ok := f[host]; ok {
		return ips, nil
	}
	return nil, errors.New("no such host")
}

func TestLoopbackOnly(t *testing.T) {
	dns := fakeDNS{
		"localhost": {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")},
		"mixed":     {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")},
		"outside":   {netip.MustParseAddr("2001:db8::1")},
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:5000":          true,
		"127.1.2.3:0":             true,
		"[::1]:5000":              true,
		"[::ffff:127.0.0.1]:5000": true,
		"localhost:5000":          true,
		":5000":                   false,
		"0.0.0.0:5000":            false,
		"[::]:5000":               false,
		"192.168.1.1:5000":        false,
		"[fe80::1%eth0]:5000":     false,
		"[::ffff:10.0.0.1]:5000":  false,
		"mixed:5000":              false,
		"outside:5000":            false,
		"unknown:5000":            false,
		"5000":                    false,
	} {
		if got := loopbackOnly(t.Context(), dns, addr); got != want {
			t.Errorf("loopbackOnly(%q) = %v, want %v", addr, got, want)
		}
	}
}

func TestModes(t *testing.T) {
	c := loadText(t, "upstreams:\n  a.io: {}\n  b.io: {username: u, password: p}\n  c.io: {username: u, password: p, access: open}\n")
	for name, want := range map[string]access.Mode{"a.io": access.Open, "b.io": access.Closed, "c.io": access.Open} {
		if got := c.mode(name); got != want {
			t.Errorf("mode(%s) = %v, want %v", name, got, want)
		}
	}
}
