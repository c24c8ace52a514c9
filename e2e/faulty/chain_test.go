package faulty

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
)

// TestGoAway asks an upstream over HTTP/2 that ends its connection with GOAWAY
// after every answer.
func TestGoAway(t *testing.T) {
	reg := New()
	defer reg.Close()
	reg.GoAway(true)
	p := startProxy(t, fmt.Sprintf("storage: {fill_after_percent: 0}\nupstreams:\n  up.test: {url: %q, ca_file: %s}\n", reg.SecureURL(), caFile(t, reg)))
	for n, op := range operations {
		img, err := reg.Add(fmt.Sprintf("r/o%d", n))
		if err != nil {
			t.Fatal(err)
		}
		c := &cell{op: op, img: img, name: "up.test"}
		view, err := c.ask(t.Context(), p.Addr, op.header)
		want := map[string]string{"cold range": "206", "referrers": "200 of 1"}[op.name]
		if want == "" {
			want = "200"
		}
		if err != nil || view != want {
			t.Errorf("%s: %s, %v; want %s", op.name, view, err, want)
		}
		if n := reg.Asked(img.Repo); n != 1 {
			t.Errorf("%s: asked %d times, want once", op.name, n)
		}
	}
}

// want asks one thing of a proxy and fails unless all of it comes.
func want(t *testing.T, p *harness.Proxy, name string, img *Image, op operation) *http.Response {
	t.Helper()
	resp, body, err := do(t.Context(), op, p.Addr, name, img, op.header)
	if err != nil || resp.StatusCode/100 != 2 || op.body != nil && !bytes.Equal(body, op.body(img)) {
		t.Fatalf("%s through %s: %v, %v, %d bytes", op.name, name, resp, err, len(body))
	}
	return resp
}

// TestChain has a proxy whose upstream is another one: everything works as with
// one, the registry is asked once, and a break in the middle is seen by nobody.
func TestChain(t *testing.T) {
	reg := New()
	defer reg.Close()
	origin := startLink(t, reg.URL())
	near := startProxy(t, fmt.Sprintf("storage: {fill_after_percent: 0}\ndefault_upstream: up.test\nupstreams:\n  up.test:\n    url: %s\n%s", origin.URL(), timings))
	between := startLink(t, "http://"+near.Addr)
	far := startProxy(t, fmt.Sprintf("storage: {fill_after_percent: 0}\nupstreams:\n  up.test:\n    url: %s\n%s", between.URL(), timings))
	for n, op := range operations {
		img, err := reg.Add(fmt.Sprintf("r/o%d", n))
		if err != nil {
			t.Fatal(err)
		}
		origin.Forget()
		want(t, far, "up.test", img, op)
		want(t, far, "up.test", img, op)
		of := func(r link.Request) bool { return strings.Contains(r.Path, img.Repo+"/") }
		if rs := origin.Requests(of); len(rs) > 2 || len(rs) > 1 && op.method != "HEAD" {
			t.Errorf("%s: the registry was asked %d times: %v", op.name, len(rs), rs)
		}
	}
	img, err := reg.Add("r/broken")
	if err != nil {
		t.Fatal(err)
	}
	origin.Forget()
	origin.Inject(link.Fault{On: link.Blob(img.Layer), Times: 1, Cut: LayerBytes / 3, Ends: link.Reset})
	between.Inject(link.Fault{On: link.Blob(img.Layer), Times: 1, Cut: LayerBytes / 2, Ends: link.Close})
	want(t, far, "up.test", img, operations[3])
	if resp := want(t, far, "up.test", img, operations[3]); resp.Header.Get("X-Cache") != "hit" {
		t.Errorf("the second time: %s", resp.Header.Get("X-Cache"))
	}
	if n := origin.Bytes(link.Blob(img.Layer)); n > LayerBytes*5/4 { // what a reset takes with it comes twice
		t.Errorf("the registry sent %d bytes of a blob of %d", n, LayerBytes)
	}
}

// TestMirrorDies has another proxy as a mirror, which is killed in the middle of
// a blob: the pull goes on from the upstream itself.
func TestMirrorDies(t *testing.T) {
	reg := New()
	defer reg.Close()
	direct := startLink(t, reg.URL())
	mirror := startProxy(t, fmt.Sprintf("upstreams:\n  hub.test: {url: %q}\n", reg.URL()))
	between := startLink(t, "http://"+mirror.Addr)
	p := startProxy(t, fmt.Sprintf("upstreams:\n  up.test:\n    url: %s\n    mirrors: [%s/hub.test]\n%s", direct.URL(), between.URL(), timings))
	img, err := reg.Add("r/a")
	if err != nil {
		t.Fatal(err)
	}
	want(t, p, "up.test", img, operations[1])
	if n := len(direct.Requests()); n != 0 {
		t.Errorf("the upstream was asked %d times while its mirror answers", n)
	}
	between.Inject(link.Fault{On: link.Blob(), Cut: LayerBytes / 2, Ends: link.Stall})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		resp, body, err := do(ctx, operations[3], p.Addr, "up.test", img, "")
		if err == nil && (resp.StatusCode != 200 || !bytes.Equal(body, img.Bytes)) {
			err = fmt.Errorf("%s, %d bytes", resp.Status, len(body))
		}
		done <- err
	}()
	for between.Bytes(link.Blob()) < LayerBytes/2 { // bounded by the test's own timeout
		select {
		case err := <-done:
			t.Fatalf("it ended before the mirror did: %v", err)
		default:
		}
	}
	mirror.Kill()
	if err := between.Down(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the client saw %v", err)
	}
	var resumed bool
	for _, r := range direct.Requests(link.Blob(img.Layer)) {
		resumed = resumed || strings.HasPrefix(r.Range, "bytes=") && r.Range != "bytes=0-"
	}
	if !resumed {
		t.Errorf("the upstream was asked for %v, want the rest", direct.Requests())
	}
	want(t, p, "up.test", img, operations[2])
}

// TestOffline takes the upstream away by configuration, over a store that has
// one image: that is served, and nothing is dialled.
func TestOffline(t *testing.T) {
	reg := New()
	defer reg.Close()
	l := startLink(t, reg.URL())
	p := startProxy(t, fmt.Sprintf("upstreams:\n  up.test: {url: %q, tag_ttl: 0s}\n", l.URL()))
	img, err := reg.Add("r/a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := reg.Add("r/b")
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range operations[1:4] {
		want(t, p, "up.test", img, op)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Env = []string{"SOCIABLE_OFFLINE=true"}
	if err := p.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	l.Forget()
	for _, op := range operations {
		if op.name == "referrers" {
			continue
		}
		if resp := want(t, p, "up.test", img, op); resp.Header.Get("Warning") != "" {
			t.Errorf("%s: warns %q", op.name, resp.Header.Get("Warning"))
		}
		resp, body, err := do(t.Context(), op, p.Addr, "up.test", other, op.header)
		if err != nil || resp.StatusCode != 404 || op.method == "GET" && !bytes.Contains(body, []byte("offline by configuration")) {
			t.Errorf("%s of what is not here: %v, %v, %s", op.name, resp, err, body)
		}
	}
	if rs := l.Requests(); len(rs) != 0 {
		t.Errorf("the upstream was asked: %v", rs)
	}
}
