package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

const images = "../../indexer/testdata/images/"

// copyLayout copies an image's layout to where it may be written to.
func copyLayout(t *testing.T, image string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), image)
	if err := os.CopyFS(dir, os.DirFS(images+image+"/before")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestIndexCreate makes the indexes that `soci create` made.
func TestIndexCreate(t *testing.T) {
	for _, tc := range []struct {
		name, image string
		args        []string
		want        []string // digests of indexes
	}{
		{"one image", "single", []string{"--min-layer-size", "20000", "--span-size", "64KiB"},
			[]string{"sha256:084c29d5674e7f14ec6318704edcfa6a231409b464af45ab5d2c03732e715d1a"}},
		{"small layers, default spans", "single", []string{"--min-layer-size", "0"},
			[]string{"sha256:bd3e7e9972578ebc2bc214dc6c567a220ce76f0cf565f0709d01e327d29ce9e1"}},
		{"Docker types", "docker", []string{"--min-layer-size", "20000", "--span-size", "65536", "-p", "linux/amd64"},
			[]string{"sha256:a793be1391b68abce7857e0250e11e7905766f5fb0825d52da19626ed1b4c86a"}},
		{"all platforms", "buildkit", []string{"--min-layer-size", "20000", "--span-size", "65536", "--all-platforms"}, []string{
			"sha256:94cef74606a63645068e6728e977c1e26c90ebeab7eb3056df7d2878db68f269",
			"sha256:1af232defc61ade75851433090bc9d6524d8cd3b0cb9a055c4bd0079027beff4",
			"sha256:610727dbeb124d7f9f3d4c298293058277123c4268de9b10e946fa207f68e1c0"}},
		{"another spelling of a platform", "buildkit", []string{"--min-layer-size", "20000", "--span-size", "65536", "-p", "linux/aarch64"},
			[]string{"sha256:1af232defc61ade75851433090bc9d6524d8cd3b0cb9a055c4bd0079027beff4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyLayout(t, tc.image)
			before, err := layout{dir: dir}.index()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second time changes nothing
				var got []string
				for _, x := range created(t, append([]string{dir}, tc.args...)...) {
					got = append(got, x.Index.String())
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("got %v, want %v", got, tc.want)
				}
				after, err := layout{dir: dir}.index()
				if err != nil || len(after.Manifests) != len(before.Manifests)+len(tc.want) {
					t.Errorf("%d manifests listed, %d before: %v", len(after.Manifests), len(before.Manifests), err)
				}
			}
			checkLayout(t, dir, tc.want)
		})
	}
}

// created runs index create, and gives what it prints.
func created(t *testing.T, args ...string) (list []IndexInfo) {
	t.Helper()
	out := expect(t, append([]string{"index", "create", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// checkLayout sees that the indexes and all they name are in a layout, as index
// info finds them.
func checkLayout(t *testing.T, dir string, want []string) {
	t.Helper()
	var list []IndexInfo
	if err := json.Unmarshal([]byte(expect(t, "index", "info", "--json", dir)), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range list {
		got = append(got, x.Index.String())
		for _, l := range x.Layers {
			if indexed := l.Spans > 0 && l.ZTOCSize > 0; indexed == (l.Reason != "") || l.Size == 0 {
				t.Errorf("layer %+v", l)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("layout lists %v, want %v", got, want)
	}
}

func TestIndexCreateElsewhere(t *testing.T) {
	dir, out := copyLayout(t, "single"), filepath.Join(t.TempDir(), "out")
	list := created(t, dir+":v1", "--min-layer-size", "20000", "--span-size", "65536", "-o", out)
	checkLayout(t, out, []string{"sha256:084c29d5674e7f14ec6318704edcfa6a231409b464af45ab5d2c03732e715d1a"})
	if idx, err := (layout{dir: dir}).index(); err != nil || len(idx.Manifests) != 1 {
		t.Errorf("the image's own layout: %v, %v", idx, err)
	}
	// Layers that have none say why.
	var why []string
	for _, l := range list[0].Layers {
		if l.State == storage.LayerSkipped {
			why = append(why, strings.SplitN(l.Reason, ":", 2)[0])
		}
	}
	if !slices.Equal(why, []string{"too-small", "zstd"}) {
		t.Errorf("skipped for %v", why)
	}
	text := expect(t, "index", "info", out)
	if !strings.Contains(text, "3 of 5 indexed") {
		t.Errorf("info:\n%s", text)
	}
	if got := decodeJSON[[]IndexInfo](t, expect(t, "index", "info", out, "--json")); !slices.Equal(got[0].Layers, list[0].Layers) {
		t.Errorf("info %+v, created %+v", got, list)
	}
}

func TestIndexCreateFaults(t *testing.T) {
	single, buildkit := copyLayout(t, "single"), copyLayout(t, "buildkit")
	damaged := copyLayout(t, "single")
	layer := filepath.Join(damaged, "blobs/sha256/353959688cc9f8c91825d658d2bcc1fb4a259fe0672a9b530d5201f842addb59")
	p, err := os.ReadFile(layer)
	if err != nil {
		t.Fatal(err)
	}
	p[4] ^= 1 // the header's time: nothing but the digest tells
	if err := os.WriteFile(layer, p, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"redis:7", "--data", t.TempDir()}, "there is no store in", exitFailed},
		{[]string{t.TempDir()}, "is no OCI layout", exitFailed},
		{[]string{single + ":v2"}, "has no image v2", exitFailed},
		{[]string{copyLayout(t, "tiny")}, "no layer of sha256:", exitFailed},
		{[]string{buildkit, "-p", "linux/s390x"}, "has no image for linux/s390x", exitFailed},
		{[]string{damaged, "--min-layer-size", "0"}, "is damaged", exitFailed},
		{[]string{single, "--span-size", "x"}, "is not a size", exitUsage},
		{[]string{buildkit, "-p", "x"}, "is not a platform", exitUsage},
	} {
		code, _, errs := command(append([]string{"index", "create"}, tc.args...)...)
		if code != tc.code || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, %q; want %d, %q", tc.args, code, errs, tc.code, tc.want)
		}
	}
	// One bad layer is left out, and the rest indexed.
	replaceLayer(t, damaged, filepath.Base(layer), len(p), []byte("not gzip"))
	list := created(t, damaged, "--min-layer-size", "0")
	if n := indexedLayers(list[0]); n != 3 || !slices.ContainsFunc(list[0].Layers, func(l LayerInfo) bool {
		return strings.HasPrefix(l.Reason, "malformed: as gzip, deflate at offset 0")
	}) {
		t.Errorf("%d layers indexed: %+v", n, list[0].Layers)
	}
}

// TestIndexCreateSHA512: a layer is checked by whatever digest it is called.
func TestIndexCreateSHA512(t *testing.T) {
	body, err := os.ReadFile("../../ztoc/testdata/inputs/zlib-6.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]digest.Digest{
		"right": digest.SHA512.FromBytes(body), "wrong": digest.SHA512.FromString("another"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(d digest.Digest, p []byte) v1.Descriptor {
				path := filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, p, 0o600)); err != nil {
					t.Fatal(err)
				}
				return v1.Descriptor{Digest: d, Size: int64(len(p))}
			}
			encode := func(doc any) []byte {
				p, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			layer := put(d, body)
			layer.MediaType = v1.MediaTypeImageLayerGzip
			config := put(digest.FromString("{}"), []byte("{}"))
			config.MediaType = v1.MediaTypeImageConfig
			p := encode(v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Config: config, Layers: []v1.Descriptor{layer}})
			image := put(digest.FromBytes(p), p)
			image.MediaType = v1.MediaTypeImageManifest
			index := encode(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{image}})
			err := errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o600),
				os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
			if err != nil {
				t.Fatal(err)
			}
			code, out, errs := command("index", "create", dir, "--min-layer-size", "0")
			if want := name == "right"; (code == exitOK) != want || strings.Contains(errs, "is damaged") == want {
				t.Errorf("exit %d, %s%s", code, out, errs)
			}
		})
	}
}

// TestIndexCreateLimits: in a layout, too, a layer beyond index.max_* is left out,
// and it is said which key lets it in.
func TestIndexCreateLimits(t *testing.T) {
	config := writeConfig(t, "index: {max_files: 1}\n")
	for name, tc := range map[string]struct {
		args []string
		env  string
		want string
	}{
		"environment": {nil, "1000", "its zTOC is larger than the 1000 B of index.max_ztoc, and than a quarter of the layer: raise index.max_ztoc"},
		"file":        {[]string{"-c", config}, "", "it holds more than the 1 files of index.max_files: raise that"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.env != "" {
				t.Setenv("SOCIABLE_INDEX_MAX_ZTOC", tc.env)
			}
			dir := copyLayout(t, "single")
			args := append([]string{"index", "create", dir, "--min-layer-size", "0"}, tc.args...)
			code, out, _ := command(append(args, "--span-size", "8KiB")...)
			if !strings.Contains(out, "too-large: as gzip, "+tc.want) {
				t.Errorf("exit %d:\n%s\nwant %q", code, out, tc.want)
			}
		})
	}
	code, _, errs := command("index", "create", copyLayout(t, "single"), "-c", writeConfig(t, "index: {max_ztoc: 0}\n"))
	if code != exitUsage || !strings.Contains(errs, "config.yml:1: index.max_ztoc") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
