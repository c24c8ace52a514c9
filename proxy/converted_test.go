package proxy

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// converter has every tag's converted form beside it, or in its place.
type converter struct {
	inPlace   bool
	withdrawn bool
	moved     atomic.Int32
}

func (c *converter) ConvertedAt(_ oci.Repo, tag string) (string, bool) {
	base, ok := strings.CutSuffix(tag, "-soci")
	return base, ok && !c.inPlace
}
func (c *converter) Withdrawn(storage.Tx, oci.Repo, string, digest.Digest) (bool, error) {
	return c.withdrawn, nil
}

func (c *converter) ConvertedInPlace(oci.Repo, string) bool { return c.inPlace }
func (c *converter) Moved(oci.Repo, string)                 { c.moved.Add(1) }

// convert files a converted form of a source, as the indexer does.
func (s *server) convert(t *testing.T, tag, source, made string) digest.Digest {
	t.Helper()
	return s.convertIn(t, oci.Repo{Upstream: "up", Name: "a"}, tag, source, made)
}

func (s *server) convertIn(t *testing.T, repo oci.Repo, tag, source, made string) digest.Digest {
	t.Helper()
	d, of := digest.FromString(made), digest.FromString(source)
	m, err := oci.ParseManifest([]byte(made), "")
	if err != nil {
		t.Fatal(err)
	}
	row := storage.BlobRow{Digest: d, Kind: storage.KindIndex, Of: of}
	err = s.store.Put(t.Context(), row, []byte(made), func(tx storage.Tx) error {
		return errors.Join(
			tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(made)), Manifest: *m}),
			tx.PutConversion(storage.ConversionRow{Repo: repo, Source: v1.Descriptor{Digest: of}, Index: v1.Descriptor{Digest: d}}),
			tx.PutConvertedTag(storage.ConvertedTagRow{Repo: repo, Tag: tag, Source: of, Index: d}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantTag checks where a tag leads, by HEAD and by GET, and that the same is
// had by digest, without asking the upstream for it.
func (s *server) wantTag(t *testing.T, tag string, want digest.Digest) {
	t.Helper()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		a := s.do(t, method, "/v2/up/a/manifests/"+tag)
		if got := a.header.Get("Docker-Content-Digest"); a.status != http.StatusOK || got != want.String() {
			t.Errorf("%s %s: %d, %s, want %s", method, tag, a.status, got, want)
		}
	}
	s.reg.take()
	if a := s.do(t, http.MethodGet, "/v2/up/a/manifests/"+want.String()); a.status != http.StatusOK || digest.FromBytes(a.body) != want {
		t.Errorf("by digest: %d, %s", a.status, a.body)
	}
	if asked := s.reg.take(); len(asked) > 0 {
		t.Errorf("the upstream was asked %q", asked)
	}
}

const tagsPath = "/v2/up/a/manifests/"

func TestBesideTag(t *testing.T) {
	g := newRegistry(t)
	c := &converter{}
	s := newServer(t, g, func(o *Options) { o.Converter = c })
	one, two := image(oci.EmptyDigest, digest.FromString("1"), 1), image(oci.EmptyDigest, digest.FromString("2"), 2)
	made, madeTwo := image(oci.EmptyDigest, digest.FromString("made 1"), 3), image(oci.EmptyDigest, digest.FromString("made 2"), 4)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, one)

	// Until it is made there is none.
	s.do(t, http.MethodGet, tagsPath+"v1")
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if a := s.do(t, method, tagsPath+"v1-soci"); a.status != http.StatusNotFound {
			t.Errorf("%s before: %d", method, a.status)
		}
	}
	d := s.convert(t, "v1", one, made)
	s.wantTag(t, "v1-soci", d)
	s.wantTag(t, "v1", digest.FromString(one))
	if a := s.do(t, http.MethodGet, tagsPath+"v2-soci"); a.status != http.StatusNotFound {
		t.Errorf("another tag: %d", a.status)
	}
	g.take()
	s.do(t, http.MethodGet, tagsPath+"v1-soci")
	if asked := g.take(); len(asked) > 0 {
		t.Errorf("within its time the upstream was asked %q", asked)
	}

	// The tag moves: what was made last stays until there is more.
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, two)
	later := time.Now().Add(2 * time.Hour)
	s.p.now = func() time.Time { return later }
	s.wantTag(t, "v1-soci", d)
	if c.moved.Load() == 0 {
		t.Error("nobody was told that the tag moved")
	}
	dTwo := s.convert(t, "v1", two, madeTwo)
	s.wantTag(t, "v1-soci", dTwo)

	// What we made and pushed is no reason to stand still; another's tag goes before.
	later = later.Add(2 * time.Hour)
	g.addManifest("a", "v1-soci", v1.MediaTypeImageManifest, made)
	s.wantTag(t, "v1-soci", dTwo)
	later = later.Add(2 * time.Hour)
	real := image(oci.EmptyDigest, digest.FromString("real"), 5)
	g.addManifest("a", "v1-soci", v1.MediaTypeImageManifest, real)
	s.wantTag(t, "v1-soci", digest.FromString(real))
}

// TestBesideTagOffline: a converted image outlives its upstream, as every tag.
func TestBesideTagOffline(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Converter = &converter{}; o.Upstreams[0].TagTTL = 0 })
	one, made := image(oci.EmptyDigest, digest.FromString("1"), 1), image(oci.EmptyDigest, digest.FromString("made"), 3)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, one)
	s.do(t, http.MethodGet, tagsPath+"v1")
	d := s.convert(t, "v1", one, made)
	s.wantTag(t, "v1-soci", d)
	g.CloseClientConnections()
	g.Close()
	a := s.do(t, http.MethodGet, tagsPath+"v1-soci")
	if a.status != http.StatusOK || digest.FromBytes(a.body) != d || a.header.Get("Warning") == "" {
		t.Errorf("%d, warning %q, %s", a.status, a.header.Get("Warning"), a.body)
	}
}

func TestInPlaceOfTag(t *testing.T) {
	g := newRegistry(t)
	s := newServer(t, g, func(o *Options) { o.Converter = &converter{inPlace: true} })
	one, two := image(oci.EmptyDigest, digest.FromString("1"), 1), image(oci.EmptyDigest, digest.FromString("2"), 2)
	made := image(oci.EmptyDigest, digest.FromString("made 1"), 3)
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, one)
	s.do(t, http.MethodGet, tagsPath+"v1")
	s.wantTag(t, "v1", digest.FromString(one))
	s.wantTag(t, "v1", digest.FromString(one))
	d := s.convert(t, "v1", one, made)
	s.wantTag(t, "v1", d)
	if a := s.do(t, http.MethodGet, tagsPath+digest.FromString(one).String()); digest.FromBytes(a.body) != digest.FromString(one) {
		t.Errorf("what is asked for by digest changed: %s", a.body)
	}
	if a := s.do(t, http.MethodGet, tagsPath+"v1-soci"); a.status != http.StatusNotFound {
		t.Errorf("with the suffix: %d", a.status)
	}
	g.addManifest("a", "v1", v1.MediaTypeImageManifest, two)
	later := time.Now().Add(2 * time.Hour)
	s.p.now = func() time.Time { return later }
	s.wantTag(t, "v1", digest.FromString(two))
}
