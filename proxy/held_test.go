package proxy

import (
	"context"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// holds is a Referrers that looks how busy the proxy is while it answers.
type holds struct {
	active func() int
	seen   int
}

func (h *holds) Serve(w http.ResponseWriter, _ *http.Request, _ oci.Repo, _ digest.Digest) error {
	h.seen = h.active()
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *holds) ServeTag(http.ResponseWriter, *http.Request, oci.Repo, digest.Digest) error {
	return nil
}

func (h *holds) Changed(context.Context, oci.Repo, digest.Digest) error { return nil }

// TestHeldKeepsNobodyBusy: clients that wait for an index do not keep the work on
// it from being done.
func TestHeldKeepsNobodyBusy(t *testing.T) {
	g := newRegistry(t)
	h := &holds{seen: -1}
	s := newServer(t, g, func(o *Options) { o.Referrers = h })
	h.active = s.p.Active
	body := image(oci.EmptyDigest, digest.FromString("1"), 1)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, body)
	s.do(t, http.MethodGet, tagsPath+"v1")
	s.do(t, http.MethodGet, "/v2/up/a/referrers/"+digest.FromString(body).String())
	if h.seen != 0 || s.p.Active() != 0 {
		t.Errorf("%d requests counted while one was held, %d after", h.seen, s.p.Active())
	}
}

// listing is an Indexer that looks how busy the proxy is while it waits.
type listing struct {
	noIndexer
	active func() int
	seen   map[digest.Digest]int
}

func (l *listing) Listed(_ context.Context, _ oci.Repo, d digest.Digest) { l.seen[d] = l.active() }

// TestPushWaitsForItsIndex: the indexer may have who pushed a manifest wait, and
// that keeps nobody busy.
func TestPushWaitsForItsIndex(t *testing.T) {
	l := &listing{seen: map[digest.Digest]int{}}
	s := newHost(t, Hosting{}, func(o *Options) { o.Indexer = l })
	l.active = s.p.Active
	m := s.pushImage(t, "local/app", "v1", random(100, 1))
	if got, asked := l.seen[m]; !asked || got != 0 {
		t.Errorf("asked %v, %d requests counted while one waited", asked, got)
	}
}
