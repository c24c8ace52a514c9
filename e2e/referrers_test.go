package e2e

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/soci-snapshotter/fs"
	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// listedWithin is how soon after the last layer's last byte the index is found.
const listedWithin = time.Second

// TestIndexIsListedSoon pulls an image over a network of usual speed and looks
// for its index.
func TestIndexIsListedSoon(t *testing.T) {
	p := startProxy(t, link.Options{Latency: 20 * time.Millisecond, BytesPerSecond: 50e6})
	i := image(t, realimage.ImageToolchain)
	last := p.pull(t, i.Name)
	entry := p.awaitIndex(t, i.Repo(), i.Digest, time.Until(last.Add(listedWithin)))
	t.Logf("the index was listed %v after the last layer's last byte", time.Since(last).Round(time.Millisecond))
	t.Run("list", func(t *testing.T) { p.checkList(t, i, entry) })
	t.Run("filter", func(t *testing.T) { p.checkFilter(t, i, entry) })
	t.Run("artifacts", func(t *testing.T) { p.checkArtifacts(t, i, entry) })
	t.Run("oras", func(t *testing.T) { p.checkOras(t, i, entry) })
	t.Run("soci-snapshotter", func(t *testing.T) { p.checkClient(t, i, entry) })
}

// checkClient has soci-snapshotter's own code choose the index and fetch all of it.
func (p *proxy) checkClient(t *testing.T, i realimage.Image, entry v1.Descriptor) {
	name := p.Addr + "/" + upstream + "/" + i.Repo()
	r := newRemote(t, name)
	found, err := fs.NewOCIArtifactClient(r).SelectReferrer(t.Context(), i.Descriptor(), fs.SelectFirstPolicy)
	if err != nil || found.Digest != entry.Digest {
		t.Fatalf("the client finds %s, %v, want %s", found.Digest, err, entry.Digest)
	}
	fetchSOCI(t, r, name+":1", found)
}

// TestIndexAfterAFastPull has layers arrive faster than they can be indexed.
func TestIndexAfterAFastPull(t *testing.T) {
	p := startProxy(t, link.Options{})
	i := image(t, realimage.ImageToolchain)
	last := p.pull(t, i.Name)
	p.awaitIndex(t, i.Repo(), i.Digest, 30*time.Second)
	t.Logf("at loopback's speed the index was listed %v after the last byte", time.Since(last).Round(time.Millisecond))
}

// checkList looks at an unfiltered list.
func (p *proxy) checkList(t *testing.T, i realimage.Image, entry v1.Descriptor) {
	for _, path := range spellings(i.Repo(), "/referrers/"+i.Digest.String()) {
		a := p.get(t, path)
		if got := a.Header.Values("Content-Type"); len(got) != 1 || got[0] != ociIndex {
			t.Errorf("%s: Content-Type %q, want %q and nothing else", path, got, ociIndex)
		}
		if got := a.Header.Get("OCI-Filters-Applied"); got != "" {
			t.Errorf("%s: OCI-Filters-Applied %q on an unfiltered list", path, got)
		}
		list := decode[v1.Index](t, a)
		if list.SchemaVersion != 2 || list.MediaType != ociIndex {
			t.Errorf("%s: schemaVersion %d, mediaType %q", path, list.SchemaVersion, list.MediaType)
		}
		if got := sociEntries(list); len(got) != 1 || got[0].Digest != entry.Digest {
			t.Errorf("%s: SOCI entries %v, want %s alone", path, got, entry.Digest)
		}
	}
	want := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: entry.Digest, Size: entry.Size, ArtifactType: sociV1}
	entry.Annotations = nil // allowed: the manifest's own
	if d := cmp.Diff(want, entry); d != "" {
		t.Errorf("descriptor (-want +got):\n%s", d)
	}
	other := image(t, realimage.ImageSmall) // known to the upstream, without an index so far
	a := p.get(t, referrersPath(other.Repo(), other.Digest))
	if list := decode[v1.Index](t, a); len(list.Manifests) != 0 || !bytes.Contains(a.body, []byte(`"manifests":[]`)) {
		t.Errorf("an image without referrers: %s\n%s\nwant an empty list", a.Status, a.body)
	}
}

// spellings are the ways to name a thing of a repository: by the upstream's
// prefix, by ns= as containerd does, and by both as it does under override_path.
func spellings(name, thing string) []string {
	return []string{
		repo(name) + thing,
		"/v2/" + name + thing + "?ns=" + upstream,
		repo(name) + thing + "?ns=" + upstream,
	}
}

// checkFilter asks for one artifact type, as lazy clients do.
func (p *proxy) checkFilter(t *testing.T, i realimage.Image, entry v1.Descriptor) {
	for artifactType, want := range map[string][]v1.Descriptor{sociV1: {entry}, "application/vnd.example.other": nil} {
		a := p.get(t, referrersPath(i.Repo(), i.Digest)+"?artifactType="+url.QueryEscape(artifactType), "Accept-Encoding", "gzip")
		if got := a.Header.Get("Content-Type"); got != ociIndex {
			t.Errorf("%s: Content-Type %q, want %q", artifactType, got, ociIndex)
		}
		if got := a.Header.Get("OCI-Filters-Applied"); got != "artifactType" {
			t.Errorf("%s: OCI-Filters-Applied %q, want artifactType", artifactType, got)
		}
		got := decode[v1.Index](t, a).Manifests
		if len(got) != len(want) || len(want) > 0 && got[0].Digest != want[0].Digest {
			t.Errorf("%s: %v, want %v", artifactType, got, want)
		}
	}
}

// checkArtifacts pulls the index manifest and its blobs as any manifest and
// blob, under every spelling.
func (p *proxy) checkArtifacts(t *testing.T, i realimage.Image, entry v1.Descriptor) {
	var body []byte
	for _, path := range spellings(i.Repo(), "/manifests/"+entry.Digest.String()) {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := p.do(t, method, path, "Accept", v1.MediaTypeImageManifest)
			if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != v1.MediaTypeImageManifest ||
				a.Header.Get("Docker-Content-Digest") != entry.Digest.String() || a.ContentLength != entry.Size {
				t.Errorf("%s %s: %s, headers %v", method, path, a.Status, a.Header)
			}
			if method == http.MethodGet {
				body = a.body
			}
			if digest.FromBytes(body) != entry.Digest {
				t.Fatalf("%s: the body is not %s", path, entry.Digest)
			}
		}
	}
	var index soci.Index
	if err := soci.UnmarshalIndex(body, &index); err != nil {
		t.Fatal(err)
	}
	again, err := soci.MarshalIndex(&index)
	if err != nil || !bytes.Equal(again, body) {
		t.Errorf("the index is not canonical: %v (-ours +the client's own)\n%s", err, cmp.Diff(string(body), string(again)))
	}
	if index.Config.MediaType != sociV1 || index.Config.Digest != emptyJSON {
		t.Errorf("config %v", index.Config)
	}
	for _, b := range append([]v1.Descriptor{index.Config}, index.Blobs...) {
		for _, path := range spellings(i.Repo(), "/blobs/"+b.Digest.String()) {
			a := p.get(t, path)
			if a.StatusCode != http.StatusOK || a.ContentLength != b.Size || digest.FromBytes(a.body) != b.Digest {
				t.Errorf("%s: %s, %d bytes, want %d with that digest", path, a.Status, len(a.body), b.Size)
			}
			if a := p.do(t, http.MethodHead, path); a.StatusCode != http.StatusOK || a.Header.Get("Content-Length") != strconv.FormatInt(b.Size, 10) {
				t.Errorf("HEAD %s: %s, Content-Length %s", path, a.Status, a.Header.Get("Content-Length"))
			}
		}
	}
	if len(index.Blobs) == 0 {
		t.Error("the index has no zTOCs")
	}
}

// checkOras finds and fetches the index with the library that soci-snapshotter
// uses for it.
func (p *proxy) checkOras(t *testing.T, i realimage.Image, entry v1.Descriptor) {
	r, err := remote.NewRepository(strings.TrimSuffix(p.ref(i), ":1"))
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	var found []v1.Descriptor
	err = r.Referrers(t.Context(), i.Descriptor(), sociV1, func(ds []v1.Descriptor) error {
		found = append(found, ds...)
		return nil
	})
	if err != nil || len(found) != 1 || found[0].Digest != entry.Digest {
		t.Fatalf("oras finds %v, %v; want %s", found, err, entry.Digest)
	}
	rc, err := r.Fetch(t.Context(), found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if d, err := digest.FromReader(rc); err != nil || d != entry.Digest {
		t.Errorf("oras fetches %s, %v; want %s", d, err, entry.Digest)
	}
}
