package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// goOffline makes the upstream one that the operator wants not to be asked, and
// gives a count of what it is asked all the same.
func goOffline(t *testing.T, g *registry, s *server) func() int {
	t.Helper()
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := upstream.New(upstream.Options{Name: "up", URL: u, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	up := s.p.opt.Upstreams[0]
	up.Registry, up.Offline, up.TagTTL = c, true, 0
	g.mu.Lock()
	before := len(g.asked)
	g.mu.Unlock()
	return func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.asked) - before
	}
}

func (s *server) allMissing(t *testing.T) (all []storage.MissingRow) {
	t.Helper()
	s.p.flushMissing(t.Context(), true)
	err := s.store.View(t.Context(), func(tx storage.Tx) error {
		all = nil
		return tx.AllMissing(func(row storage.MissingRow) error { all = append(all, row); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestOffline holds that what is here is served as if its upstream had said so,
// and that the rest is absent, said to be missing and remembered, without the
// upstream being asked for anything.
func TestOffline(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	layer := g.addBlob("a", []byte("layer"))
	d := g.addManifest("a", "v1", v1.MediaTypeImageManifest, image(oci.EmptyDigest, layer, 5))
	for _, path := range []string{"/v2/up/a/manifests/v1", "/v2/up/a/blobs/" + layer.String()} {
		if a := s.do(t, http.MethodGet, path); a.status != 200 {
			t.Fatalf("online %s: %d", path, a.status)
		}
	}
	waitFor(t, func() bool { _, err := s.store.Stat(t.Context(), layer); return err == nil })
	asked := goOffline(t, g, s)
	other := digest.FromString("other")
	for _, tt := range []struct {
		path   string
		status int
		says   string
	}{
		{"manifests/v1", 200, ""},
		{"manifests/" + d.String(), 200, ""},
		{"blobs/" + layer.String(), 200, ""},
		{"tags/list", 200, ""},
		{"manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"manifests/" + other.String(), 404, "MANIFEST_UNKNOWN"},
		{"blobs/" + other.String(), 404, "BLOB_UNKNOWN"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := s.do(t, method, "/v2/up/a/"+tt.path)
			if a.status != tt.status || a.header.Get("Warning") != "" {
				t.Errorf("%s %s: %d, Warning %q, want %d", method, tt.path, a.status, a.header.Get("Warning"), tt.status)
			}
			if body := string(a.body); method == http.MethodGet && tt.says != "" && (!strings.Contains(body, tt.says) || !strings.Contains(body, "offline by configuration")) {
				t.Errorf("%s: says %s", tt.path, body)
			}
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/up/a/tags/list"); string(a.body) != `{"name":"up/a","tags":["v1"]}` {
		t.Errorf("tags are %s", a.body)
	}
	if a := s.do(t, http.MethodGet, "/v2/up/b/tags/list"); a.status != 404 {
		t.Errorf("tags of a repository that is not here: %d", a.status)
	}
	if a := s.do(t, http.MethodGet, "/v2/up/b/blobs/"+layer.String()); a.status != 404 { // another's, and nobody can be asked
		t.Errorf("the blob through another repository: %d", a.status)
	}
	if n := asked(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
	waitFor(t, func() bool { return len(s.allMissing(t)) == 3 }) // noted behind the answers
	got := map[string]string{}
	for _, row := range s.allMissing(t) {
		got[row.Repo.String()+" "+row.Reference] = fmt.Sprint(row.Asked, row.Blob)
	}
	want := map[string]string{
		"up/a v2": "2 false", "up/a " + other.String(): got["up/a "+other.String()], "up/b " + layer.String(): "1 true",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || got["up/a "+other.String()] == "" {
		t.Errorf("missing are %v, want %v", got, want)
	}
}

// TestMissingIsBounded holds that clients can't fill the store with names.
func TestMissingIsBounded(t *testing.T) {
	var ticks atomic.Int64 // rows are written behind the answers, too
	begin := time.Now()
	s := newServer(t, newRegistry(t), func(o *Options) {
		o.Now = func() time.Time { return begin.Add(time.Duration(ticks.Add(1)) * time.Second) }
	})
	for round := range 2 {
		for n := range maxMissing + 10 {
			s.p.missed(http.MethodGet, &access{route: "manifest", repo: "up/a", reference: fmt.Sprintf("v%d-%d", round, n)})
		}
		if n := len(s.allMissing(t)); n != maxMissing {
			t.Fatalf("%d rows, want %d", n, maxMissing)
		}
	}
	s.p.missed(http.MethodGet, &access{route: "manifest", repo: "up/a", reference: "last"})
	rows := s.allMissing(t)
	if len(rows) != maxMissing || rows[0].Reference != "last" {
		t.Errorf("%d rows, the first %+v", len(rows), rows[0])
	}
}

// TestMissingOfAPush: what a push looks for is not missing, and a pull that asks
// twice counts once.
func TestMissingOfAPush(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, nil)
	goOffline(t, g, s)
	d := digest.FromString("other")
	for _, path := range []string{"a/manifests/v1", "pushed/manifests/v1", "pushed/blobs/" + d.String(), "heads/manifests/v1", "a/blobs/" + d.String()} {
		if a := s.do(t, http.MethodHead, "/v2/up/"+path); a.status != 404 {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/v1"); a.status != 404 {
		t.Errorf("GET: %d", a.status)
	}
	if a := s.do(t, http.MethodPost, "/v2/up/pushed/blobs/uploads/"); a.status != 405 {
		t.Errorf("POST: %d", a.status)
	}
	got := map[string]int64{}
	for _, row := range s.allMissing(t) {
		got[row.Repo.String()+" "+row.Reference] = row.Asked
	}
	if diff := cmp.Diff(map[string]int64{"up/a v1": 1, "up/heads v1": 1}, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// TestStrangersPushRubsOutNothing: only who may look at what is there makes what
// was looked for a push's.
func TestStrangersPushRubsOutNothing(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) {
		o.Access = accessFunc(func(r *http.Request, _ oci.Repo, action oci.Action) error {
			if action != oci.ActionPull || r.Header.Get("Stranger") != "" {
				return oci.NewError(errcode.ErrorCodeDenied, "not you")
			}
			return nil
		})
	})
	goOffline(t, g, s)
	for _, repo := range []string{"a", "b"} {
		if a := s.do(t, http.MethodHead, "/v2/up/"+repo+"/manifests/v1"); a.status != 404 {
			t.Errorf("HEAD in %s: %d", repo, a.status)
		}
	}
	for _, header := range [][]string{{"a", "Stranger", "yes"}, {"b"}} {
		if a := s.do(t, http.MethodPost, "/v2/up/"+header[0]+"/blobs/uploads/", header[1:]...); a.status != 405 {
			t.Errorf("POST to %s: %d", header[0], a.status)
		}
	}
	if rows := s.allMissing(t); len(rows) != 1 || rows[0].Repo.String() != "up/a" {
		t.Errorf("missing are %+v, want that of up/a", rows)
	}
}
