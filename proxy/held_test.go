package proxy

import (
	"context"
	"io"
	"net/http"
	"sync"
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

func (h *holds) ServeTheirs(w http.ResponseWriter, r *http.Request, repo oci.Repo, d digest.Digest) error {
	return h.Serve(w, r, repo, d)
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

// claims is an Indexer that is told what is pushed.
type claims struct {
	noIndexer
	begun chan struct{}
	is    chan digest.Digest
}

func (*claims) PushSize(oci.Repo) int64 { return 1 }

func (c *claims) Push(_ oci.Repo, rc io.ReadCloser) func(digest.Digest) {
	_ = rc.Close()
	close(c.begun)
	return func(d digest.Digest) { c.is <- d }
}

// TestPushIsWhatHasCome: the indexer is told what a blob is when all of it has
// come, and not when its client says so, who may never go on.
func TestPushIsWhatHasCome(t *testing.T) {
	c := &claims{begun: make(chan struct{}), is: make(chan digest.Digest, 1)}
	s := newHost(t, Hosting{}, func(o *Options) { o.Indexer = c })
	body := random(1000, 1)
	d := digest.FromBytes(body)
	r, w := io.Pipe()
	var rest sync.WaitGroup
	rest.Go(func() {
		_, _ = w.Write(body[:500])
		<-c.begun
		if len(c.is) > 0 {
			t.Error("the indexer is told before all has come")
		}
		_, _ = w.Write(body[500:])
		_ = w.Close()
	})
	if a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+d.String(), r); a.status != http.StatusCreated {
		t.Errorf("push: %d %s", a.status, a.body)
	}
	rest.Wait()
	if got := <-c.is; got != d {
		t.Errorf("told %s, want %s", got, d)
	}
}
