package wild

import (
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

// slow is an upstream far away.
var slow = link.Options{Latency: 100 * time.Millisecond, BytesPerSecond: 50e6}

// learned measures a lazy start once starts before it were learnt from: through a
// warm proxy, by nodes that prefetch and by such that don't; and through one that
// holds nothing of the layers but their zTOCs, in front of a slow upstream.
func (s samples) learned(t *testing.T) {
	hand := startByHand(t)
	// The start is over long before the usual window is, and every client is to
	// be offered what was learnt.
	p := startProxyWith(t, []string{"SOCIABLE_LEARN_WINDOW=10s", "SOCIABLE_LEARN_SAMPLE_PERCENT=0"})
	p.warm(t)
	other, err := link.Start("http://"+p.Addr, link.Options{Latency: wire.Latency, BytesPerSecond: wire.BytesPerSecond, From: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for n, host := range []string{p.down.Addr(), other.Addr()} { // two callers: one alone teaches nothing
		onNode(t, NodeOptions{V1: true}, func(n *Node) { start(t, n, Lazy, host+"/up/"+suite.image.Ref()) })
		p.awaitStarts(t, n+1)
	}
	s.start(t, "learned, by hand", NodeOptions{V1: true}, Lazy, hand.ref(), hand.down)
	for _, tt := range []struct {
		name     string
		prefetch bool
	}{{"learned, warm", false}, {"learned, prefetch", true}} {
		s.start(t, tt.name, NodeOptions{V1: true, Prefetch: tt.prefetch}, Lazy, p.ref(), p.down)
		s.nothingAsked(t, p)
		p.wantPrefetch(t)
	}
	p.up.Set(slow)
	defer p.up.Set(wire)
	for _, tt := range []struct {
		name     string
		prefetch bool
	}{{"learned, evicted", false}, {"learned, evicted, prefetch", true}} {
		p.evict(t)
		p.up.Forget()
		s.start(t, tt.name, NodeOptions{V1: true, Prefetch: tt.prefetch}, Lazy, p.ref(), p.down)
		p.wantPrefetch(t)
		s.add(tt.name+" upstream MB", float64(p.up.Bytes())/1e6)
		t.Logf("%s: %d bytes from the upstream in %d requests", tt.name, p.up.Bytes(), len(p.up.Requests()))
	}
}

// awaitStarts waits until n starts were counted and, from the second on, until what
// was learnt of them is offered.
func (p *proxy) awaitStarts(t *testing.T, n int) {
	t.Helper()
	var list []struct {
		Starts int        `json:"starts"`
		Index  string     `json:"index"`
		Bytes  int64      `json:"bytes"`
		Layers []struct{} `json:"layers"`
	}
	p.await(t, "a start that was counted, and learnt from", func() bool {
		out, err := harness.Run(t.Context(), suite.programs.Sociable, "learn", "show", "--json", "--data", p.Data, "up/"+suite.image.Ref())
		if err == nil {
			err = json.Unmarshal(out, &list)
		}
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == 1 && list[0].Starts == n && (n < 2 || list[0].Index != "")
	})
	t.Logf("after %d starts: %d bytes of %d layers", n, list[0].Bytes, len(list[0].Layers))
}

// wantPrefetch holds that the index that is listed has prefetch artifacts, and
// that the node of the last start took them. (Nodes take them also where they are
// told not to prefetch.)
func (p *proxy) wantPrefetch(t *testing.T) {
	t.Helper()
	base := fmt.Sprintf("http://%s/v2/up/%s", p.Addr, suite.image.Repo())
	var list, index struct {
		Manifests []struct{ Digest digest.Digest }
		Layers    []struct {
			MediaType string
			Digest    digest.Digest
		}
	}
	body, err := get(t.Context(), base+"/referrers/"+suite.image.Digest.String()+"?artifactType=application%2Fvnd.amazon.soci.index.v1%2Bjson", "")
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	if err != nil || len(list.Manifests) != 1 {
		t.Fatalf("%d indexes are listed (%v), want one", len(list.Manifests), err)
	}
	if body, err = get(t.Context(), base+"/manifests/"+list.Manifests[0].Digest.String(), ""); err == nil {
		err = json.Unmarshal(body, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	artifacts := 0
	for _, l := range index.Layers {
		if l.MediaType != "application/vnd.amazon.soci.prefetch.v1+json" {
			continue
		}
		artifacts++
		if len(p.down.Requests(link.Blob(l.Digest))) == 0 {
			t.Errorf("prefetch artifact %s was not asked for", l.Digest)
		}
	}
	if artifacts == 0 {
		t.Errorf("the index that is listed has no prefetch artifact: %s", body)
	}
}

// startProxyWith is startProxy with environment variables.
func startProxyWith(t *testing.T, env []string, args ...string) *proxy {
	t.Helper()
	p := &proxy{up: startLink(t, suite.registry.URL())}
	var err error
	if p.Proxy, err = harness.NewProxy(suite.programs, t.TempDir(), []string{"up=" + p.up.URL()}, args...); err != nil {
		t.Fatal(err)
	}
	p.Env = env
	if err := p.Start(suite.ctx); err != nil {
		t.Fatal(err)
	}
	p.down = startLink(t, "http://"+p.Addr)
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop sociable: %v", err)
		}
		if t.Failed() {
			t.Logf("sociable's log:\n%s", p.Log())
		}
	})
	return p
}
