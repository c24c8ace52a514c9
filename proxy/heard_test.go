package proxy

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// headThenGet asks as containerd and Docker do: what the tag means, then for that.
func (s *server) headThenGet(t *testing.T, repo, tag string) answer {
	t.Helper()
	a := s.do(t, http.MethodHead, "/v2/up/"+repo+"/manifests/"+tag)
	if a.status != http.StatusOK {
		return a
	}
	return s.do(t, http.MethodGet, "/v2/up/"+repo+"/manifests/"+a.header.Get("Docker-Content-Digest"))
}

// TestTagByHead: a tag that is only ever asked for with HEAD is known here as one
// that is got, with its time to live, its moves, and while the upstream is away.
func TestTagByHead(t *testing.T) {
	g := newRegistry(t)
	told := &tagTeller{Indexer: noIndexer{}}
	now := time.Now()
	s := newServer(t, g, func(o *Options) {
		o.Upstreams[0].TagTTL, o.Indexer, o.Now = time.Minute, told, func() time.Time { return now }
	})
	manifest := func(n string) string { return image(oci.EmptyDigest, digest.FromString(n), 1) }
	one := g.addManifest("a", "v1", v1.MediaTypeImageManifest, manifest("1"))
	g.addManifest("a", "same", v1.MediaTypeImageManifest, manifest("1"))
	want := func(when, tag string, d digest.Digest, asked ...string) {
		t.Helper()
		a := s.headThenGet(t, "a", tag)
		if a.status != http.StatusOK || digest.FromBytes(a.body) != d || a.header.Get("Warning") != "" {
			t.Errorf("%s: %d, %s, Warning %q", when, a.status, a.body, a.header.Get("Warning"))
		}
		if diff := cmp.Diff(asked, g.take()); diff != "" {
			t.Errorf("%s, the upstream was asked (-want +got):\n%s", when, diff)
		}
	}
	const head, get = "HEAD manifests", "GET manifests"
	want("at first", "v1", one, head, get)
	want("again", "v1", one)
	want("another tag of what is here", "same", one, head)
	want("that again", "same", one)
	two := g.addManifest("a", "v1", v1.MediaTypeImageManifest, manifest("2"))
	want("before its time is over", "v1", one)
	now = now.Add(2 * time.Minute)
	want("it has moved", "v1", two, head, get)
	want("and is known", "v1", two)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, manifest("1"))
	now = now.Add(2 * time.Minute)
	want("it has moved back", "v1", one, head)
	want("which is known, too", "v1", one)
	now = now.Add(2 * time.Minute)
	g.Close()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		a := s.do(t, method, "/v2/up/a/manifests/v1")
		if a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != one.String() || a.header.Get("Warning") == "" {
			t.Errorf("%s while the upstream is away: %d %v", method, a.status, a.header)
		}
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	if diff := cmp.Diff([]digest.Digest{one, one, two, one}, told.seen); diff != "" {
		t.Errorf("the indexer was told of (-want +got):\n%s", diff)
	}
}

// tagTeller notes the manifests that the indexer is told of.
type tagTeller struct {
	Indexer
	mu   sync.Mutex
	seen []digest.Digest
}

func (x *tagTeller) Manifest(_ context.Context, _ oci.Repo, row storage.ManifestRow) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = append(x.seen, row.Digest)
	return nil
}

// TestHeardIsBounded holds that names which clients make up take no memory
// without end, and that what was heard long ago counts for nothing.
func TestHeardIsBounded(t *testing.T) {
	h, start := newHeard(), time.Now()
	r := right{oci.Repo{Upstream: "up", Name: "a"}, digest.FromString("x")}
	for i := range 3 * maxHeardTags {
		h.add(r, strconv.Itoa(i), start.Add(time.Duration(i)*time.Second))
		h.add(right{oci.Repo{Upstream: "up", Name: strconv.Itoa(i)}, r.d}, "1", start)
	}
	last := start.Add(time.Duration(3*maxHeardTags) * time.Second)
	if got := h.of(r, last); len(got) != maxHeardTags || got[len(got)-1].tag != strconv.Itoa(3*maxHeardTags-1) {
		t.Errorf("%d tags are remembered, the last is %v", len(got), got[len(got)-1])
	}
	if got := h.of(r, last.Add(heardTTL)); len(got) != 0 {
		t.Errorf("after %v there are %v", heardTTL, got)
	}
	h.add(r, "again", last)
	h.add(r, "again", last.Add(time.Second))
	got := h.of(r, last.Add(time.Second))
	if n := len(got); n > maxHeardTags || got[n-1].tag != "again" || got[n-2].tag == "again" {
		t.Errorf("a tag is remembered twice: %v", got)
	}
	for i := range maxHeard {
		h.add(right{oci.Repo{Upstream: "other", Name: strconv.Itoa(i)}, r.d}, "1", last)
	}
	if got := h.of(r, last); got != nil {
		t.Errorf("%d more manifests, and there are %v", maxHeard, got)
	}
}
