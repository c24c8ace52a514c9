package indexer

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// conversion is one run of `soci convert` v0.15.0.
type conversion struct {
	image, folder, options string
	minLayerSize, spanSize int64
	index                  digest.Digest // "": it ended with an error
	manifests              []string      // that it wrote or kept, but for the index
	zTOCs                  map[string]v1.Descriptor
	indexes                []string // platforms of the SOCI indexes, in order
}

func readConversions(t *testing.T) (cs []conversion) {
	t.Helper()
	f, err := os.Open("testdata/images/images.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if c[1] != "convert" {
			continue
		}
		if c[6] == "index" || c[6] == "error" {
			cs = append(cs, conversion{
				image: c[0], options: c[4], minLayerSize: number(t, c[2]), spanSize: number(t, c[3]), zTOCs: map[string]v1.Descriptor{},
			})
		}
		last := &cs[len(cs)-1]
		switch c[6] {
		case "index":
			last.index = digest.Digest(c[7])
		case "manifest", "attestation", "soci-index-v2":
			last.manifests = append(last.manifests, c[7])
			if last.folder == "" && c[6] == "manifest" {
				last.folder = c[9]
			}
			if c[6] == "soci-index-v2" {
				last.indexes = append(last.indexes, c[5])
			}
		case "ztoc":
			last.zTOCs[c[9]] = v1.Descriptor{Digest: digest.Digest(c[7]), Size: number(t, c[8])}
		}
	}
	return cs
}

// source reads the image of a layout as Convert wants it.
func (l layout) source() Source {
	l.t.Helper()
	body, err := os.ReadFile(filepath.Join(l.dir, "index.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	var top v1.Index
	if err := json.Unmarshal(body, &top); err != nil {
		l.t.Fatal(err)
	}
	d := top.Manifests[0]
	src := Source{Descriptor: d, Body: l.blob(d.Digest), Manifests: map[digest.Digest][]byte{}}
	m := parseImage(l.t, src.Body, d.MediaType)
	for _, c := range m.manifest.Manifests {
		src.Manifests[c.Digest] = l.blob(c.Digest)
	}
	if !m.manifest.IsIndex() {
		src.Manifests[d.Digest] = src.Body
		if err := json.Unmarshal(l.blob(m.manifest.Config.Digest), &src.Platform); err != nil {
			l.t.Fatal(err)
		}
	}
	return src
}

// platformIndexes makes the SOCI indexes of a conversion as the tool was told to.
func (c *conversion) platformIndexes(t *testing.T, src Source) (out []PlatformIndex) {
	t.Helper()
	index, err := src.index()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range c.indexes {
		i := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool {
			want, _ := oci.ParsePlatform(name)
			return oci.SamePlatform(want, *d.Platform)
		})
		d := index.Manifests[i]
		p, err := oci.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		var layers []IndexLayer
		var prefetch []v1.Descriptor
		for _, l := range parseImage(t, src.Manifests[d.Digest], d.MediaType).manifest.Layers {
			z, ok := c.zTOCs[l.Digest.String()]
			if !ok {
				continue
			}
			layers = append(layers, IndexLayer{Layer: l, ZTOC: z.Digest, ZTOCSize: z.Size, SpanSize: c.spanSize})
			if strings.Contains(c.options, "xattr") {
				layers[len(layers)-1].NoXattrs = !strings.HasPrefix(l.Digest.Encoded(), xattrLayer)
			}
			if spans := prefetched[l.Digest.Encoded()[:12]]; spans != nil && strings.Contains(c.options, "prefetch") {
				_, d, err := EncodePrefetch(l.Digest, spans)
				if err != nil {
					t.Fatal(err)
				}
				prefetch = append(prefetch, d)
			}
		}
		body, err := EncodeIndexV2(layers, prefetch)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, PlatformIndex{Manifest: d.Digest, Platform: p, Body: body})
	}
	return out
}

// TestOfficialConversions: what `soci convert` wrote, with every option that it
// has, comes out byte for byte.
func TestOfficialConversions(t *testing.T) {
	for _, c := range readConversions(t) {
		if c.index == "" {
			continue
		}
		t.Run(c.image+" "+c.folder, func(t *testing.T) {
			before := layout{t, filepath.Join("testdata/images", c.image, "before")}
			after := layout{t, filepath.Join("testdata/images", c.image, c.folder)}
			src := before.source()
			got, err := Convert(src, c.platformIndexes(t, src))
			if err != nil {
				t.Fatal(err)
			}
			if got.Index().Descriptor.Digest != c.index {
				t.Errorf("index (-official +ours):\n%s", cmp.Diff(string(after.blob(c.index)), string(got.Index().Body)))
			}
			var made []string
			for _, m := range got[:len(got)-1] {
				made = append(made, m.Descriptor.Digest.String())
				if string(after.blob(m.Descriptor.Digest)) != string(m.Body) {
					t.Errorf("manifest %s differs", m.Descriptor.Digest)
				}
			}
			slices.Sort(made)
			want := slices.DeleteFunc(c.manifests, func(d string) bool { _, kept := src.Manifests[digest.Digest(d)]; return kept })
			slices.Sort(want)
			if diff := cmp.Diff(want, made); diff != "" {
				t.Errorf("manifests (-official +ours):\n%s", diff)
			}
		})
	}
}

// What the tool found in the layers of image single: the one layer that has
// xattrs, and the spans of the files that were to be prefetched.
const xattrLayer = "353959688cc9"

var prefetched = map[string][]PrefetchSpans{
	"047600a9093d": {{First: 1, Last: 2}},
	"353959688cc9": {{First: 0, Last: 1}},
}
