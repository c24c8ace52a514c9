package access

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

var lab = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestForwardedFor(t *testing.T) {
	for _, tt := range []struct {
		name, peer string
		values     []string
		want       string // "": the peer stays
	}{
		{name: "a stranger is not believed", peer: "192.0.2.9", values: []string{"198.51.100.1"}},
		{name: "nothing was said", peer: "10.0.0.1"},
		{name: "one proxy", peer: "10.0.0.1", values: []string{"198.51.100.1"}, want: "198.51.100.1"},
		{name: "what the client made up", peer: "10.0.0.1", values: []string{"203.0.113.5, 198.51.100.1"}, want: "198.51.100.1"},
		{name: "an address of ours that the client made up", peer: "10.0.0.1", values: []string{"10.9.9.9, 198.51.100.1"}, want: "198.51.100.1"},
		{name: "two proxies", peer: "10.0.0.1", values: []string{"203.0.113.5, 198.51.100.1 ,10.0.0.2"}, want: "198.51.100.1"},
		{name: "in two headers", peer: "10.0.0.1", values: []string{"198.51.100.1", "10.0.0.2"}, want: "198.51.100.1"},
		{name: "all are ours", peer: "10.0.0.1", values: []string{"10.0.0.3, 10.0.0.2"}, want: "10.0.0.3"},
		{name: "nonsense", peer: "10.0.0.1", values: []string{"unknown"}},
		{name: "nonsense before a proxy", peer: "10.0.0.1", values: []string{"unknown, 10.0.0.2"}, want: "10.0.0.2"},
		{name: "empty", peer: "10.0.0.1", values: []string{""}},
		{name: "with a port", peer: "10.0.0.1", values: []string{"198.51.100.1:4711"}, want: "198.51.100.1"},
		{name: "IPv6", peer: "fd00::1", values: []string{"2001:db8::7"}, want: "2001:db8::7"},
		{name: "IPv6 with a port", peer: "fd00::1", values: []string{"[2001:db8::7]:1"}, want: "2001:db8::7"},
		{name: "IPv6 in brackets", peer: "fd00::1", values: []string{"2001:db8::7, [fd00::2]"}, want: "2001:db8::7"},
		{name: "the client's IPv6 in brackets", peer: "fd00::1", values: []string{"[2001:db8::7]"}, want: "2001:db8::7"},
		{name: "in quotes", peer: "10.0.0.1", values: []string{`"198.51.100.1"`}, want: "198.51.100.1"},
		{name: "in quotes, with a port", peer: "10.0.0.1", values: []string{`"[2001:db8::7]:47011", "10.0.0.2:1"`}, want: "2001:db8::7"},
		{name: "in quotes and brackets", peer: "10.0.0.1", values: []string{`203.0.113.5, "[2001:db8::7]"`}, want: "2001:db8::7"},
		{name: "IPv4 in brackets is nonsense", peer: "10.0.0.1", values: []string{"[198.51.100.1]"}},
		{name: "half a quote is nonsense", peer: "10.0.0.1", values: []string{`"198.51.100.1`}},
		{name: "IPv4 in IPv6", peer: "::ffff:10.0.0.1", values: []string{"::ffff:198.51.100.1"}, want: "198.51.100.1"},
		{name: "no address", peer: "@", values: []string{"198.51.100.1"}},
	} {
		got, ok := forwardedFor(lab, tt.peer, tt.values)
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("%s: %v, %v; want %q", tt.name, got, ok, tt.want)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	f.Add("10.0.0.1", "198.51.100.1, 10.0.0.2")
	f.Add("fd00::1", "[::1%eth0]:1,,")
	f.Add("fd00::1", `"[2001:db8::7]", [fd00::2]`)
	f.Fuzz(func(t *testing.T, peer, value string) {
		got, ok := forwardedFor(lab, peer, []string{value})
		if p, err := netip.ParseAddr(peer); ok && (err != nil || !trusts(lab, p) || !got.IsValid()) {
			t.Errorf("%q, %q: %v", peer, value, got)
		}
	})
}

// TestGuessesBehindABalancer: who guesses behind a trusted proxy slows down nobody
// else behind it, and does not get around it by made-up addresses.
func TestGuessesBehindABalancer(t *testing.T) {
	b, _ := newPassBench(t)
	p := b.a.policy.Load().Policy
	p.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	b.a.Apply(p)
	next := b.a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := b.a.Enter(r); err != nil {
			http.Error(w, err.Error(), http.StatusTeapot)
		}
	}))
	ask := func(peer, via, password string) (status int, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/token", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", via)
		r.SetBasicAuth("bob", password)
		w := httptest.NewRecorder()
		next.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for i := range freeTries {
		if code, _ := ask("10.0.0.1:1", "203.0.113."+string(rune('1'+i))+", 198.51.100.1", strings.Repeat("g", i+1)); code != http.StatusUnauthorized {
			t.Errorf("guess %d: %d", i, code)
		}
	}
	if code, _ := ask("10.0.0.1:1", "203.0.113.9, 198.51.100.1", "again"); code != http.StatusTooManyRequests {
		t.Errorf("one guess more: %d", code)
	}
	if code, _ := ask("10.0.0.1:1", "198.51.100.2", "wrong"); code != http.StatusUnauthorized {
		t.Errorf("a neighbour behind the same proxy: %d", code)
	}
}
