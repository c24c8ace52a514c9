package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
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

// TestWhoMayPush: on loopback, where auth says nothing, everybody may push to
// where pushes are taken, whatever is said about who may pull from elsewhere.
func TestWhoMayPush(t *testing.T) {
	const two = "  a.io: {push: allow}\n  b.io: {access: open}\n"
	for _, tt := range []struct {
		name, text   string
		repo         oci.Repo
		want, warned bool
	}{
		{"nothing is said", "upstreams:\n  a.io: {push: allow}\n", oci.Repo{Upstream: "a.io", Name: "x"}, true, false},
		{"of another upstream", "upstreams:\n" + two, oci.Repo{Upstream: "a.io", Name: "x"}, true, false},
		{"no push: allow", "upstreams:\n" + two, oci.Repo{Upstream: "b.io", Name: "x"}, false, false},
		{"a hosted namespace", "upstreams:\n" + two, oci.Repo{Upstream: "local", Name: "x"}, true, false},
		{"rules without it", "upstreams:\n" + two + "auth:\n  rules:\n    - {repositories: ['b.io/**'], pull: [anonymous]}\n",
			oci.Repo{Upstream: "a.io", Name: "x"}, false, true},
		{"beyond loopback", "listen: 0.0.0.0:5000\nupstreams:\n" + two, oci.Repo{Upstream: "a.io", Name: "x"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := loadText(t, tt.text)
			a := access.New(access.Options{}, c.accessPolicy())
			err := a.May(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v2/", nil), tt.repo, oci.ActionPush)
			if (err == nil) != tt.want {
				t.Errorf("push to %s: %v, want allowed %t", tt.repo, err, tt.want)
			}
			var doubts findings
			c.checkPushThrough(&doubts)
			if (len(doubts.list) > 0) != tt.warned {
				t.Errorf("warned: %v, want %t", doubts.list, tt.warned)
			}
		})
	}
}

func TestTrustedProxies(t *testing.T) {
	c := loadText(t, "auth: {trusted_proxies: [10.1.2.3/8, 192.0.2.7, \"fd00::/8\"]}\n")
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8")}
	if got := c.accessPolicy().TrustedProxies; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"10.0.0.0/33", "balancer", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		c := &Config{Auth: AuthConfig{TrustedProxies: []string{bad}}}
		var found, doubts findings
		if c.checkProxies(&found, &doubts); len(c.Auth.proxies) > 0 {
			t.Errorf("%s was taken", bad)
		}
	}
}
