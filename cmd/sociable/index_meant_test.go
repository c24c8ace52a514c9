package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// platformsOfIndexes are the platforms of what index info or list prints as JSON.
func platformsOfIndexes(t *testing.T, args ...string) (names []string) {
	t.Helper()
	for _, x := range decodeJSON[[]IndexInfo](t, expect(t, append(append([]string{"index"}, args...), "--json")...)) {
		names = append(names, x.Platform)
	}
	return names
}

// TestLayoutForms: the image of a layout is named in the same ways everywhere, and
// its platforms are known in a layout that has the indexes alone, too.
func TestLayoutForms(t *testing.T) {
	dir, out := copyLayout(t, "buildkit"), filepath.Join(t.TempDir(), "out")
	args := []string{"index", "create", dir + ":v1", "--all-platforms", "--min-layer-size", "20000", "--span-size", "64KiB"}
	expect(t, args...)
	expect(t, append(args, "-o", out)...)
	all := []string{"linux/amd64", "linux/arm64", "linux/arm/v7"}
	for _, tc := range [][]string{
		{"info", dir}, {"info", dir + ":v1"}, {"info", "oci:" + dir + ":v1"}, {"info", out},
		{"info", "--layout", dir, "v1"}, {"info", "--layout", dir, dir}, {"info", "--layout", dir + "/", dir + ":v1"}, {"info", "--layout", dir + ":v1", "v1"},
		{"list", dir}, {"list", out}, {"list", dir, "--ref", "v1"}, {"list", dir, "--ref", dir + ":v1"}, {"list", dir + ":v1"},
	} {
		got := platformsOfIndexes(t, tc...)
		if tc[0] == "list" { // the latest first
			slices.Sort(got)
			all = slices.Sorted(slices.Values(all))
		}
		if !slices.Equal(got, all) {
			t.Errorf("%v: %v, want %v", tc, got, all)
		}
	}
	for _, tc := range [][]string{
		{"info", dir, "-p", "linux/arm64"}, {"info", out, "-p", "linux/aarch64"}, {"list", out, "-p", "linux/arm64"}, {"list", dir, "--ref", "v1", "-p", "linux/arm64"},
	} {
		if got := platformsOfIndexes(t, tc...); !slices.Equal(got, []string{"linux/arm64"}) {
			t.Errorf("%v: %v", tc, got)
		}
	}
	if x := decodeJSON[IndexInfo](t, expect(t, "index", "info", "--json", "--layout", dir, "v1", "-p", "linux/arm64")); x.Platform != "linux/arm64" {
		t.Errorf("%+v", x)
	}
	zTOCs := expect(t, "ztoc", "list", "-q", dir)
	for _, word := range []string{"v1", dir + ":v1", dir} {
		if got := expect(t, "ztoc", "list", "-q", dir, "--image-ref", word); got != zTOCs {
			t.Errorf("ztoc list --image-ref %s: %q, want %q", word, got, zTOCs)
		}
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"index", "info", "--layout", dir, "v2"}, `no indexed image is meant by "v2"; sociable index list ` + dir},
		{[]string{"index", "info", "--layout", dir, dir + ":v2"}, "has no image v2"},
		{[]string{"ztoc", "list", dir, "--image-ref", "v2"}, `no indexed image is meant by "v2"`},
		{[]string{"index", "info", dir, "-p", "linux/s390x"}, "is not known here for linux/s390x, but for: linux/amd64, linux/arm64, linux/arm/v7"},
		{[]string{"index", "info", "--layout", dir, "sha256:"}, "no indexed image is meant by"},
	} {
		if code, _, errs := command(tc.args...); code != exitFailed || !strings.Contains(errs, tc.want) {
			t.Errorf("%v: exit %d, %s; want %s", tc.args, code, errs, tc.want)
		}
	}
}

// TestOneMeant: an image for many platforms is one; what could be two images, or
// begins like two digests, is not.
func TestOneMeant(t *testing.T) {
	image := func(name, platform string, tags ...string) IndexInfo {
		return IndexInfo{Repository: "docker.io/library/redis", Manifest: digest.FromString(name), Platform: platform, Tags: tags}
	}
	all := []IndexInfo{image("a", "linux/amd64", "7"), image("b", "linux/arm64", "7"), image("c", "linux/amd64", "8"), image("d", "", "9"), image("e", "", "9")}
	for _, tc := range []struct {
		word, platform string
		want           []IndexInfo
		err            string
	}{
		{"redis:7", "", all[:2], ""},
		{"redis:7", "linux/arm64", all[1:2], ""},
		{"redis:8", "", all[2:3], ""},
		{"redis", "linux/arm64", all[1:2], ""},
		{all[1].Manifest.String(), "", all[1:2], ""},
		{"redis:8", "linux/arm64", nil, "redis:8 is not known here for linux/arm64, but for: linux/amd64"},
		{"redis:8", "x", nil, "--platform: "},
		{"redis", "", nil, "name it by its digest"},
		{"redis:9", "", nil, "name it by its digest"},
		{"redis:10", "", nil, "no indexed image is meant by"},
	} {
		var platforms []string
		if tc.platform != "" {
			platforms = []string{tc.platform}
		}
		got, err := place{}.oneMeant(all, tc.word, platforms)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s %s: %v, want %s", tc.word, tc.platform, err, tc.err)
			}
			continue
		}
		if err != nil || len(got) != len(tc.want) || got[0].Manifest != tc.want[0].Manifest {
			t.Errorf("%s %s: %+v, %v", tc.word, tc.platform, got, err)
		}
	}
}

// TestLayerTable: each cell begins where its head does, behind a layer without a
// zTOC, too.
func TestLayerTable(t *testing.T) {
	z := digest.FromString("z")
	x := IndexInfo{Layers: []LayerInfo{
		{Digest: z, Size: 1 << 20, State: storage.LayerIndexed, ZTOC: z, ZTOCSize: 1 << 10, Spans: 12},
		{Digest: z, Size: 1, State: storage.LayerSkipped, Reason: "too-small: 1 bytes, 20000 wanted"},
		{Digest: z, Size: 12 << 20, State: storage.LayerIndexed, ZTOC: z, ZTOCSize: 12 << 10, Spans: 3},
	}}
	var out bytes.Buffer
	if err := printIndex(&out, x); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(out.String(), "\n\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for _, head := range []string{"SIZE", "STATE", "SPANS", "ZTOC", "ZTOC SIZE", "REASON"} {
		at := strings.Index(lines[0], "  "+head) + 2
		for _, l := range lines {
			if at < 2 || len(l) <= at || l[at-1] != ' ' || l[at] == ' ' {
				t.Errorf("%s is not aligned:\n%s", head, table)
				break
			}
		}
	}
}

// TestVerifyBlames the zTOC for what is wrong with it, in JSON, too.
func TestVerifyBlames(t *testing.T) {
	dir := t.TempDir()
	layer, z := inputs+"zlib-6.tar.gz", filepath.Join(dir, "z")
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, append(readFile(t, inputs+"all-types.tar"), make([]byte, 512)...), 0o600); err != nil {
		t.Fatal(err)
	}
	gz := readFile(t, layer)
	same := filepath.Join(dir, "same") // a tar, though of nothing, as long as the layer
	if err := os.WriteFile(same, make([]byte, len(gz)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		of     string
		change func([]byte) []byte
		want   string
	}{
		{plain, nil, "is of a layer of "},
		{same, nil, "is of a layer with compression uncompressed, this one has gzip"},
		{layer, func(p []byte) []byte { return bytes.Replace(p, []byte("sha256:"), []byte("sha-25:"), 1) }, "digest of span 0: invalid ztoc"},
	} {
		expect(t, "ztoc", "build", tc.of, "-o", z)
		if tc.change != nil {
			if err := os.WriteFile(z, tc.change(readFile(t, z)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, out, errs := command("ztoc", "verify", "--json", layer, z)
		if v := decodeJSON[VerifiedZTOC](t, out); code != exitFailed || v.Match || !strings.Contains(v.Differs, tc.want) {
			t.Errorf("%s: exit %d, %+v, want %q", tc.of, code, v, tc.want)
		}
		if !strings.Contains(errs, z) || strings.Contains(errs, layer) {
			t.Errorf("%s: %s", tc.of, errs)
		}
		if _, _, errs := command("ztoc", "verify", layer, z); !strings.HasPrefix(errs, "sociable: "+z+": ") {
			t.Errorf("%s: %s", tc.of, errs)
		}
	}
}

// TestWithdrawnIsShown: in which repository nothing is offered of an image.
func TestWithdrawnIsShown(t *testing.T) {
	d := digest.FromString("x")
	x := IndexInfo{
		Repository: "lab/a", Tags: []string{"1"}, Withdrawn: true, Manifest: d, Index: d,
		Also: []web.IndexName{{Repository: "lab/b", Tags: []string{"2"}}},
	}
	for _, tc := range []struct {
		name  string
		print func(*bytes.Buffer) error
		want  []string
	}{
		{"info", func(w *bytes.Buffer) error { return printIndex(w, x) }, []string{`withdrawn +nothing is offered here`, `also +lab/b 2\n`, `index +sha256:`}},
		{"list --all", func(w *bytes.Buffer) error { return printImages(w, []IndexInfo{x}, false) }, []string{`lab/a +sha256:\S+ +withdrawn `, `lab/b +sha256:\S+ +sha256:`}},
		{"list", func(w *bytes.Buffer) error { return printIndexes(w, []IndexInfo{x}) }, []string{` lab/b:2 `}},
		{"everywhere", func(w *bytes.Buffer) error {
			y := x
			y.Index, y.Also = "", nil
			return printIndex(w, y)
		}, []string{`index +none\n`}},
	} {
		var out bytes.Buffer
		if err := tc.print(&out); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("%s: no %q in\n%s", tc.name, want, out.String())
			}
		}
	}
}
