package e2e

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestOfficialJudge compares our indexes with those that the official
// implementation makes of the same images, byte for byte, and lets the official
// client read files through our zTOCs and ranges.
func TestOfficialJudge(t *testing.T) {
	p := startProxy(t, link.Options{})
	for _, test := range []struct {
		image string
		nth   int // every nth regular file is read
	}{
		{realimage.ImageSmall, 1},
		{realimage.ImageToolchain, 101},
		{realimage.ImageDocker, 211},
		{realimage.ImageBig, 47},
	} {
		t.Run(test.image, func(t *testing.T) {
			i := image(t, test.image)
			p.pull(t, i.Name)
			entry := p.awaitIndex(t, i.Repo(), i.Digest, time.Minute)
			index := p.sameIndex(t, i, i.Repo(), entry)
			for _, l := range i.Layers {
				z, ok := indexedLayers(index)[l.Digest]
				if !ok {
					continue // under 10 MiB; sameIndex has seen that official leaves it out, too
				}
				zTOC := p.get(t, blobPath(i.Repo(), z.Digest)).body
				mount(t, p.Addr, upstream+"/"+i.Repo(), l, zTOC).compareFiles(t, filesOf(t, l, test.nth))
			}
		})
	}
	t.Run(realimage.ImageMulti, func(t *testing.T) { p.judgePlatforms(t) })
}

// sameIndex compares the index manifest and its zTOCs with the official ones.
func (p *proxy) sameIndex(t *testing.T, i realimage.Image, repository string, entry v1.Descriptor) v1.Manifest {
	t.Helper()
	want, wantBody, err := officialIndex(t, i, platformOf(i))
	if err != nil {
		t.Fatalf("the official builder: %v", err)
	}
	got := p.get(t, manifestPath(repository, entry.Digest.String()))
	if want.Digest != entry.Digest || !bytes.Equal(wantBody, got.body) {
		t.Errorf("index of %s is %s, the official one is %s (-official +ours):\n%s",
			i.Name, entry.Digest, want.Digest, cmp.Diff(string(wantBody), string(got.body)))
	}
	index := decode[v1.Manifest](t, got)
	o, err := theOfficial()
	if err != nil {
		t.Fatal(err)
	}
	var official v1.Manifest
	if err := json.Unmarshal(wantBody, &official); err != nil {
		t.Fatal(err)
	}
	if len(official.Layers) == 0 {
		t.Errorf("the official index of %s names no zTOC", i.Name)
	}
	for _, z := range official.Layers {
		a := p.get(t, blobPath(repository, z.Digest))
		if off := firstDifference(bytes.NewReader(o.read(t, z)), bytes.NewReader(a.body)); off >= 0 {
			t.Errorf("zTOC %s (%d bytes): %s, ours differs at byte %d", z.Digest, z.Size, a.Status, off)
		}
	}
	return index
}

// judgePlatforms pulls a multi-platform image: each platform has its own index.
func (p *proxy) judgePlatforms(t *testing.T) {
	multi := image(t, realimage.ImageMulti)
	index := decode[v1.Index](t, p.get(t, manifestPath(multi.Repo(), "1"), "Accept", multi.MediaType))
	var seen []digest.Digest
	for n, m := range index.Manifests {
		i := image(t, multi.Platforms[n])
		if m.Digest != i.Digest {
			t.Fatalf("platform %d is %s, want %s", n, m.Digest, i.Digest)
		}
		p.get(t, manifestPath(multi.Repo(), m.Digest.String()), "Accept", m.MediaType)
		for _, d := range i.Blobs() {
			if _, err := p.download(t.Context(), blobPath(multi.Repo(), d), d); err != nil {
				t.Fatal(err)
			}
		}
		entry := p.awaitIndex(t, multi.Repo(), m.Digest, time.Minute)
		p.sameIndex(t, i, multi.Repo(), entry)
		seen = append(seen, entry.Digest)
	}
	if len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("indexes of two platforms: %v", seen)
	}
}

// TestPlainRegistryLazily is the judge tried on itself: the official client
// reads a layer through the official zTOC from a plain registry.
func TestPlainRegistryLazily(t *testing.T) {
	l := startLink(t, suite.Registry.URL(), link.Options{})
	i := image(t, realimage.ImageSmall)
	_, body, err := officialIndex(t, i, platformOf(i))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.Manifest
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	o, err := theOfficial()
	if err != nil {
		t.Fatal(err)
	}
	layer := i.Layers[0]
	lazy := mount(t, l.Addr(), i.Repo(), layer, o.read(t, indexedLayers(index)[layer.Digest]))
	files := filesOf(t, layer, 50)
	l.Forget()
	lazy.compareFiles(t, files[:1])
	first, last := lazy.spansOf(t, files[0].name)
	start, end := lazy.compressed(first, last)
	if got, want := l.Bytes(), int64(end-start); got != want && last == first {
		t.Errorf("one file took %d bytes, its spans are %d", got, want)
	}
	lazy.compareFiles(t, files)
}
