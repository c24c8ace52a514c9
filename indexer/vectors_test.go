package indexer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// vector is one run of `soci create` v0.15.0 for one platform of an image.
type vector struct {
	image, platform        string
	minLayerSize, spanSize int64
	index                  digest.Digest // "": the run ended with an error, without an index
	zTOCs                  []string      // by layer order
}

// readVectors reads the rows of images.tsv that are about `soci create`. Runs
// with prefetch artifacts are left out: those are not made here.
func readVectors(t *testing.T) []vector {
	t.Helper()
	f, err := os.Open("testdata/images/images.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var vs []vector
	prefetch := false
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if c[1] != "create" {
			continue
		}
		switch kind := c[6]; kind {
		case "soci-index-v1", "error":
			if prefetch = strings.Contains(c[9], "--prefetch-file"); prefetch {
				continue
			}
			v := vector{image: c[0], platform: c[5]}
			v.minLayerSize, v.spanSize = number(t, c[2]), number(t, c[3])
			if kind != "error" {
				v.index = digest.Digest(c[7])
			}
			vs = append(vs, v)
		case "ztoc":
			if !prefetch {
				last := &vs[len(vs)-1]
				last.zTOCs = append(last.zTOCs, c[7])
			}
		}
	}
	return vs
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// layout reads blobs of an OCI layout.
type layout struct {
	t   *testing.T
	dir string
}

func (l layout) blob(d digest.Digest) []byte {
	l.t.Helper()
	body, err := os.ReadFile(filepath.Join(l.dir, "blobs", d.Algorithm().String(), d.Encoded()))
	if err != nil {
		l.t.Fatal(err)
	}
	return body
}

// manifest finds the image manifest of a platform.
func (l layout) manifest(platform string) *image {
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
	if oci.MediaTypeDockerManifestList == d.MediaType || v1.MediaTypeImageIndex == d.MediaType {
		m := parseImage(l.t, l.blob(d.Digest), d.MediaType)
		for _, d = range m.manifest.Manifests {
			if p := d.Platform; p != nil && (p.OS+"/"+p.Architecture == platform ||
				p.OS+"/"+p.Architecture+"/"+p.Variant == platform) {
				break
			}
		}
	}
	return parseImage(l.t, l.blob(d.Digest), d.MediaType)
}

// TestOfficialIndexes: for every image, platform and setting the index and its
// zTOCs are those of `soci create`, whichever way the layers come.
func TestOfficialIndexes(t *testing.T) {
	ways := map[string]func(w *world, img *image, layers [][]byte){
		"from the stream": func(w *world, img *image, layers [][]byte) {
			w.manifest(redis, img)
			for _, l := range layers {
				w.tap(l)
			}
		},
		"from the store": func(w *world, img *image, layers [][]byte) {
			w.manifest(redis, img)
			for _, l := range layers {
				w.whole(l)
			}
		},
		"manifest last": func(w *world, img *image, layers [][]byte) {
			for _, l := range layers {
				w.tap(l)
				w.whole(l)
			}
			w.settle()
			w.manifest(redis, img)
		},
	}
	for way, pull := range ways {
		for _, v := range readVectors(t) {
			name := fmt.Sprintf("%s/%s %s %d %d", way, v.image, strings.ReplaceAll(v.platform, "/", "-"), v.minLayerSize, v.spanSize)
			t.Run(name, func(t *testing.T) { inBubble(t, func(t *testing.T) { checkVector(t, v, pull) }) })
		}
	}
}

func checkVector(t *testing.T, v vector, pull func(*world, *image, [][]byte)) {
	before := layout{t, filepath.Join("testdata/images", v.image, "before")}
	img := before.manifest(v.platform)
	var layers [][]byte
	for _, d := range img.manifest.Layers {
		layers = append(layers, before.blob(d.Digest))
	}
	rules := []Rule{{Repositories: []string{"redis"}, MinLayerSize: v.minLayerSize, SpanSize: v.spanSize}}
	w := start(t, t.TempDir(), Options{Rules: rules}, nil)
	pull(w, img, layers)
	w.settle()

	if v.index == "" {
		w.wantNoIndex(img)
		return
	}
	ds := w.referrers(img.digest)
	if len(ds) != 1 || ds[0].Digest != v.index {
		t.Errorf("listed %v, want %s", ds, v.index)
	}
	created := layout{t, filepath.Join("testdata/images", v.image, "create")}
	if v.minLayerSize == 0 {
		created.dir += "-4m"
	}
	if diff := cmp.Diff(string(created.blob(v.index)), string(w.read(v.index))); diff != "" {
		t.Errorf("index (-official +ours):\n%s", diff)
	}
	m, err := oci.ParseManifest(w.read(v.index), "")
	if err != nil {
		t.Fatal(err)
	}
	var zTOCs []string
	for _, l := range m.Layers {
		zTOCs = append(zTOCs, l.Digest.String())
		w.read(l.Digest)
		w.wantRows(digest.Digest(l.Annotations[annotationLayerDigest]), v.spanSize, before)
	}
	if diff := cmp.Diff(v.zTOCs, zTOCs); diff != "" {
		t.Errorf("zTOCs (-official +ours):\n%s", diff)
	}
}

// wantRows checks what the rows say of an indexed layer.
func (w *world) wantRows(d digest.Digest, spanSize int64, from layout) {
	w.t.Helper()
	body := from.blob(d)
	w.view(func(tx storage.Tx) error {
		row, err := tx.Layer(d, spanSize)
		if err != nil {
			return err
		}
		if row.State != storage.LayerIndexed || row.Size != int64(len(body)) || row.Spans == 0 || row.DiffID.Validate() != nil {
			w.t.Errorf("row of layer %s: %+v", d, row)
		}
		if n := min(512, len(body)); len(row.Head) != n || string(row.Head) != string(body[:n]) {
			w.t.Errorf("head of layer %s has %d bytes, want the first %d", d, len(row.Head), n)
		}
		if blob, err := tx.Blob(row.ZTOC); err != nil || blob.Of != d || blob.Kind != storage.KindZTOC || blob.Size != row.ZTOCSize {
			w.t.Errorf("zTOC of layer %s: %+v, %v", d, blob, err)
		}
		table, err := tx.Spans(d, spanSize)
		if err == nil && len(table) == 0 {
			w.t.Errorf("layer %s has an empty span table", d)
		}
		return err
	})
}
