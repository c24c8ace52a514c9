package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// madeImage is an image of one layer, and what an indexer makes of it.
type madeImage struct {
	config, layer, zTOC   []byte
	source                string // the manifest
	soci, image, imageSet string // SOCI index, rewritten manifest, converted image
}

// newMadeImage pushes an image to repo of s, and files what was made of it.
func newMadeImage(t *testing.T, s *server, repo string) *madeImage {
	t.Helper()
	x := &madeImage{config: []byte(`{"os":"linux"}`), layer: random(3000, 7), zTOC: random(500, 8)}
	of := func(mediaType string, body []byte) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromBytes(body), len(body))
	}
	manifest := func(config, layer, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`, v1.MediaTypeImageManifest, config, layer, more)
	}
	config, layer := of(v1.MediaTypeImageConfig, x.config), of(v1.MediaTypeImageLayerGzip, x.layer)
	x.source = manifest(config, layer, "")
	x.image = manifest(config, layer, `,"annotations":{"com.amazon.soci.index-digest":"x"}`)
	x.soci = manifest(of(oci.MediaTypeSOCIIndexV2, oci.EmptyJSON), of("application/octet-stream", x.zTOC), "")
	x.imageSet = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s,%s]}`, v1.MediaTypeImageIndex,
		of(v1.MediaTypeImageManifest, []byte(x.image)), of(v1.MediaTypeImageManifest, []byte(x.soci)))
	x.pushSource(t, s, repo)
	x.file(t, s, x.zTOC, storage.KindZTOC, digest.FromBytes(x.layer))
	x.file(t, s, oci.EmptyJSON, storage.KindIndex, "")
	for _, body := range []string{x.soci, x.image, x.imageSet} {
		x.file(t, s, []byte(body), storage.KindIndex, digest.FromString(x.source))
	}
	return x
}

func (x *madeImage) pushSource(t *testing.T, s *server, repo string) {
	t.Helper()
	s.pushBlob(t, repo, x.config)
	s.pushBlob(t, repo, x.layer)
	if a := s.putManifest(t, repo, "1", x.source); a.status != http.StatusCreated {
		t.Fatalf("push an image to %s: %d %s", repo, a.status, a.body)
	}
}

func (x *madeImage) file(t *testing.T, s *server, body []byte, kind storage.Kind, of digest.Digest) {
	t.Helper()
	d := digest.FromBytes(body)
	err := s.store.Put(t.Context(), storage.BlobRow{Digest: d, Size: int64(len(body)), Kind: kind, Of: of}, body, func(tx storage.Tx) error {
		if of == "" || kind != storage.KindIndex {
			return nil
		}
		m, err := oci.ParseManifest(body, "")
		if err != nil {
			return err
		}
		return tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(body)), Manifest: *m})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// blobs are what the converted image is made of, beside manifests.
func (x *madeImage) blobs() [][]byte { return [][]byte{x.config, x.layer, x.zTOC, oci.EmptyJSON} }

// wantCopied pulls the converted image whole from where it was copied to.
func (x *madeImage) wantCopied(t *testing.T, s *server, repo, tag string) {
	t.Helper()
	get := func(path string, want []byte) {
		t.Helper()
		if a := s.do(t, http.MethodGet, "/v2/"+repo+"/"+path); a.status != http.StatusOK || string(a.body) != string(want) {
			t.Errorf("%s/%s: %d, %d bytes", repo, path, a.status, len(a.body))
		}
	}
	get("manifests/"+tag, []byte(x.imageSet))
	for _, m := range []string{x.imageSet, x.image, x.soci} {
		get("manifests/"+digest.FromString(m).String(), []byte(m))
	}
	for _, b := range x.blobs() {
		get("blobs/"+digest.FromBytes(b).String(), b)
	}
}

// copyTo pushes the converted image as a client does: nothing that is there already.
func (x *madeImage) copyTo(t *testing.T, s *server, repo, tag string) answer {
	t.Helper()
	for _, b := range x.blobs() {
		if a := s.do(t, http.MethodHead, "/v2/"+repo+"/blobs/"+digest.FromBytes(b).String()); a.status == http.StatusNotFound {
			s.pushBlob(t, repo, b)
		}
	}
	for _, m := range []string{x.image, x.soci} {
		if a := s.do(t, http.MethodHead, "/v2/"+repo+"/manifests/"+digest.FromString(m).String()); a.status != http.StatusNotFound {
			continue
		}
		if a := s.putManifest(t, repo, digest.FromString(m).String(), m); a.status != http.StatusCreated {
			return a
		}
	}
	return s.putSet(t, repo, tag, x.imageSet)
}

func (s *server) putSet(t *testing.T, repo, tag, body string) answer {
	t.Helper()
	return s.send(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, strings.NewReader(body), "Content-Type", v1.MediaTypeImageIndex)
}

// TestCopyMadeHere copies a converted image between repositories of a proxy that
// made it, and of the upstream behind it.
func TestCopyMadeHere(t *testing.T) {
	front, host := newFront(t, Hosting{}, true)
	hosting := newHost(t, Hosting{}, nil)
	for name, c := range map[string]struct {
		s        *server
		from, to string
		at       *server // has the copy, too
		there    string
	}{
		"hosted, beside its image":  {hosting, "local/a", "local/a", hosting, "local/a"},
		"hosted, elsewhere":         {hosting, "local/b", "other/b", hosting, "other/b"},
		"at an upstream, beside it": {front, "up/local/a", "up/local/a", host, "local/a"},
		"at an upstream, elsewhere": {front, "up/local/b", "up/other/b", host, "other/b"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMadeImage(t, c.s, c.from)
			if a := x.copyTo(t, c.s, c.to, "copy"); a.status != http.StatusCreated {
				t.Fatalf("copy: %d %s", a.status, a.body)
			}
			x.wantCopied(t, c.s, c.to, "copy")
			x.wantCopied(t, c.at, c.there, "copy")
		})
	}
}

// TestMadeHereNotGiven: what was made here is neither kept for a repository nor sent
// to an upstream for somebody who cannot read it there.
func TestMadeHereNotGiven(t *testing.T) {
	refused := "" // a repository that nobody pulls from
	access := accessFunc(func(_ *http.Request, repo oci.Repo, action oci.Action) error {
		if action == oci.ActionPull && repo.String() == refused {
			return oci.NewError(errcode.ErrorCodeDenied, "not you")
		}
		return nil
	})
	host := newHost(t, Hosting{}, nil)
	for name, c := range map[string]struct {
		s        *server
		from, to string
	}{
		"hosted":         {newHost(t, Hosting{}, func(o *Options) { o.Access = access }), "local/a", "local/b"},
		"of an upstream": {newServer(t, &registry{Server: host.Server}, func(o *Options) { o.Upstreams[0].PushThrough, o.Access = true, access }), "up/local/a", "up/local/b"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.s
			x := newMadeImage(t, s, c.from)
			s.pushBlob(t, c.to, oci.EmptyJSON)
			put := func(what, repo, body string, status int, code string) {
				t.Helper()
				wantCode(t, what, s.putManifest(t, repo, digest.FromString(body).String(), body), status, code)
			}
			put("a zTOC without its layer", c.to, x.soci, 400, "MANIFEST_BLOB_UNKNOWN")
			wantCode(t, "manifests without their source", s.putSet(t, c.to, "1", x.imageSet), 400, "MANIFEST_BLOB_UNKNOWN")
			s.pushBlob(t, c.from, oci.EmptyJSON)
			refused = c.from
			put("a zTOC that the caller may not read", c.from, x.soci, 400, "MANIFEST_BLOB_UNKNOWN")
			refused = ""
			zTOC := digest.FromBytes(x.zTOC)
			block := func(tx storage.Tx) error { return tx.PutBlock(storage.BlockRow{Digest: zTOC}) }
			if err := s.store.Update(t.Context(), block); err != nil {
				t.Fatal(err)
			}
			put("a zTOC that is kept out", c.from, x.soci, 403, "DENIED")
			if err := s.store.Update(t.Context(), func(tx storage.Tx) error { return tx.DeleteBlock(zTOC) }); err != nil {
				t.Fatal(err)
			}
			if a := s.putManifest(t, c.from, digest.FromString(x.soci).String(), x.soci); a.status != http.StatusCreated {
				t.Errorf("in the end: %d %s", a.status, a.body)
			}
		})
	}
}

// TestMadeHereIsRefused: what an upstream has against a part that is sent there out of
// the store is what the client is told; nothing of it counts for a quota that is full.
func TestMadeHereIsRefused(t *testing.T) {
	front, _ := newFront(t, Hosting{Quota: 4000}, true)
	hosting := newHost(t, Hosting{Quota: 4000}, nil)
	for repo, s := range map[string]*server{"up/local/a": front, "local/a": hosting} {
		x := newMadeImage(t, s, repo)
		a := x.copyTo(t, s, repo, "copy")
		wantCode(t, repo, a, http.StatusForbidden, "DENIED")
		if a := s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/copy"); a.status != http.StatusNotFound {
			t.Errorf("%s: the copy is there: %d", repo, a.status)
		}
	}
}
