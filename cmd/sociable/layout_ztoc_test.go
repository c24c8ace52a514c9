package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestZTOCInLayout: what works on a store works on an OCI layout, too.
func TestZTOCInLayout(t *testing.T) {
	dir, out := copyLayout(t, "single"), filepath.Join(t.TempDir(), "out")
	x := created(t, dir, "--min-layer-size", "20000", "--span-size", "64KiB")[0]
	var l LayerInfo
	for _, l = range x.Layers {
		if l.ZTOC != "" {
			break
		}
	}
	for _, args := range [][]string{{dir}, {"--layout", dir}, {"--layout", dir + ":v1"}, {dir, "--image-ref", x.Manifest.String()}} {
		list := decodeJSON[[]StoredZTOC](t, expect(t, append([]string{"ztoc", "list", "--json"}, args...)...))
		if len(list) != indexedLayers(x) || list[0] != (StoredZTOC{l.ZTOC, l.ZTOCSize, l.Digest}) {
			t.Errorf("list %v: %+v", args, list)
		}
	}
	short, layer := l.ZTOC.String()[:20], l.Digest.String()[:20]
	var info struct {
		Files []struct{ Filename, Type string } `json:"files"`
	}
	if err := json.Unmarshal([]byte(expect(t, "ztoc", "info", "--layout", dir, short)), &info); err != nil {
		t.Fatal(err)
	}
	file := ""
	for _, f := range info.Files {
		if f.Type == "reg" {
			file = f.Filename
			break
		}
	}
	zFile := filepath.Join(dir, "blobs/sha256", l.ZTOC.Encoded())
	want := expect(t, "ztoc", "get-file", zFile, file, "--layer", filepath.Join(dir, "blobs/sha256", l.Digest.Encoded()))
	for _, args := range [][]string{{short}, {zFile, "--layer", l.Digest.String()}, {short, "--layer", layer}} {
		args = append([]string{"ztoc", "get-file", args[0], file, "--layout", dir}, args[1:]...)
		if got := expect(t, args...); got != want || want == "" {
			t.Errorf("%v: %d bytes, want %d", args, len(got), len(want))
		}
	}
	for _, args := range [][]string{{layer, short}, {l.Digest.String(), zFile}, {filepath.Join(dir, "blobs/sha256", l.Digest.Encoded()), short}} {
		if got := expect(t, append([]string{"ztoc", "verify", "--layout", dir}, args...)...); !strings.Contains(got, "and clients take it") {
			t.Errorf("verify %v: %s", args, got)
		}
	}
	created(t, dir, "--min-layer-size", "20000", "-o", out) // without the layers
	other := decodeJSON[[]StoredZTOC](t, expect(t, "ztoc", "list", "--json", out))[0].Digest.String()
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"info", "--layout", dir, x.Index.String()[:20]}, "is a SOCI index, no zTOC: see sociable index info", exitFailed},
		{[]string{"info", "--layout", dir, x.Manifest.String()[:20]}, "is an image, no zTOC", exitFailed},
		{[]string{"info", "--layout", dir, layer}, "is a layer, no zTOC; that of it is " + l.ZTOC.String(), exitFailed},
		{[]string{"info", "--layout", dir, "sha256:0000000000000"}, "no zTOC sha256:0000000000000 in layout", exitFailed},
		{[]string{"info", dir}, "is a folder, not a zTOC; it is an OCI layout", exitFailed},
		{[]string{"build", dir}, "is a folder, not a layer; it is an OCI layout", exitFailed},
		{[]string{"build", ""}, "the name of the layer is empty", exitUsage},
		{[]string{"get-file", zFile, ""}, "the name of the file is empty", exitUsage},
		{[]string{"list", t.TempDir()}, "is no OCI layout", exitFailed},
		{[]string{"list", dir + ":none"}, "has no image none", exitFailed},
		{[]string{"get-file", "--layout", out, other, file}, "the layer is not whole in layout", exitFailed},
		{[]string{"verify", "--layout", out, layer, other}, "is not whole in layout", exitFailed},
		{[]string{"verify", "--layout", dir, "sha256:0000000000000", short}, "no layer sha256:0000000000000 with a zTOC in layout", exitFailed},
	} {
		code, stdout, errs := command(append([]string{"ztoc"}, tc.args...)...)
		if code != tc.code || stdout != "" || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q", tc.args, code, stdout, errs, tc.code, tc.want)
		}
	}
}

// TestConvertedLayout finds the SOCI indexes that soci convert put into an image.
func TestConvertedLayout(t *testing.T) {
	dir := copyLayout(t, "buildkit")
	if err := os.RemoveAll(filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"create", "convert"} { // what they share with the image is not in their folders
		overlay(t, dir, images+"buildkit/"+from)
	}
	list := decodeJSON[[]IndexInfo](t, expect(t, "index", "info", "--json", dir))
	if len(list) != 3 || list[0].Platform != "linux/amd64" || list[1].Platform != "linux/arm64" || list[2].Platform != "linux/arm/v7" {
		t.Fatalf("%+v", list)
	}
	for _, x := range list {
		if indexedLayers(x) == 0 {
			t.Errorf("%+v", x)
		}
	}
	if got := expect(t, "ztoc", "list", "-q", dir); strings.Count(got, "\n") == 0 {
		t.Errorf("ztoc list: %q", got)
	}
}

// overlay copies from's files over those in dir.
func overlay(t *testing.T, dir, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), readFile(t, path), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestIndexCreatePartly: what was made of some platforms is told before what
// failed for another.
func TestIndexCreatePartly(t *testing.T) {
	dir := copyLayout(t, "docker") // its arm64 image has small layers only
	code, out, errs := command("index", "create", "--json", dir, "--all-platforms", "--min-layer-size", "20000", "--span-size", "64KiB")
	list := decodeJSON[[]IndexInfo](t, out)
	if code != exitFailed || len(list) != 2 || list[0].Index != "sha256:a793be1391b68abce7857e0250e11e7905766f5fb0825d52da19626ed1b4c86a" || list[1].Index != "" {
		t.Errorf("exit %d, %+v", code, list)
	}
	if !strings.Contains(errs, `{"error":{"message":"no layer of `+list[1].Manifest.String()+` for linux/arm64 has a zTOC"}}`) {
		t.Errorf("error: %s", errs)
	}
	// The second image is damaged: the first has its index.
	dir = copyLayout(t, "docker")
	if err := os.WriteFile(layout{dir: dir}.blob(list[1].Manifest), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = command("index", "create", "--json", dir, "--all-platforms", "--min-layer-size", "20000")
	if list := decodeJSON[[]IndexInfo](t, out); code != exitFailed || len(list) != 1 || list[0].Index == "" || !strings.Contains(errs, "is damaged") {
		t.Errorf("exit %d, %+v, %s", code, list, errs)
	}
}

// TestIndexInLayout: index list and info tell of a layout what they tell of a
// store, in the same words.
func TestIndexInLayout(t *testing.T) {
	dir := copyLayout(t, "single")
	if code, out, errs := command("index", "info", dir); code != exitFailed || out != "" || !strings.Contains(errs, "has no SOCI index; sociable index create makes one") {
		t.Errorf("without an index: exit %d, %q, %q", code, out, errs)
	}
	x := created(t, dir, "--min-layer-size", "20000", "--span-size", "64KiB")[0]
	if x.Platform != "linux/amd64" {
		t.Errorf("platform %q", x.Platform)
	}
	for _, args := range [][]string{{dir}, {"--layout", dir}, {"--layout", dir + ":v1"}, {dir, "--ref", x.Manifest.String()}, {dir, "-p", "linux/amd64"}} {
		list := decodeJSON[[]IndexInfo](t, expect(t, append([]string{"index", "list", "--json"}, args...)...))
		if len(list) != 1 || !reflect.DeepEqual(list[0], x) {
			t.Errorf("list %v: %+v, want %+v", args, list, x)
		}
		lines := strings.Split(expect(t, append([]string{"index", "list"}, args...)...), "\n")
		if got := strings.Join(strings.Fields(lines[0]), " "); got != "DIGEST SIZE IMAGE REF PLATFORM MEDIA TYPE MANIFEST VERSION CREATED" {
			t.Errorf("list %v: %q", args, lines)
		}
		if got := strings.Fields(lines[1]); len(got) != 8 || got[0] != x.Index.String() || got[3] != "linux/amd64" || got[5] != "v1" {
			t.Errorf("list %v: %q", args, got)
		}
	}
	if got := expect(t, "index", "list", dir, "-p", "linux/arm64", "-q"); got != "" {
		t.Errorf("of another platform: %q", got)
	}
	if got := expect(t, "index", "list", dir, "--all"); !strings.Contains(got, "3 of 5") {
		t.Errorf("--all: %q", got)
	}
	for _, word := range []string{x.Manifest.String()[:20], x.Manifest.String()} {
		if got := decodeJSON[IndexInfo](t, expect(t, "index", "info", "--json", "--layout", dir, word)); !reflect.DeepEqual(got, x) {
			t.Errorf("info %s: %+v", word, got)
		}
	}
	zstd := 0
	for _, l := range x.Layers {
		if l.Reason == "zstd" {
			zstd++
		}
	}
	if out := expect(t, "index", "info", dir); strings.Count(out, " zstd\n") != zstd || zstd == 0 {
		t.Errorf("%d zstd layers in\n%s", zstd, out)
	}
	if m := decodeJSON[v1.Manifest](t, expect(t, "index", "info", "--layout", dir, x.Index.String()[:20])); m.Subject == nil || m.Subject.Digest != x.Manifest {
		t.Errorf("by the index's digest: %+v", m)
	}
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"list", t.TempDir()}, "is no OCI layout", exitFailed},
		{[]string{"list", dir, "x"}, "want 1 argument, not 2: sociable index list [LAYOUT]", exitUsage},
		{[]string{"info", "--layout", dir, "sha256:00"}, "no indexed image is meant by", exitFailed},
		{[]string{"create", dir, "-p", "linux/arm64"}, "has no image for linux/arm64: its one is for linux/amd64", exitFailed},
		{[]string{"create", dir, "--span-size", "0"}, "--span-size is 4KiB to 1GiB, not 0", exitUsage},
	} {
		code, out, errs := command(append([]string{"index"}, tc.args...)...)
		if code != tc.code || out != "" || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q", tc.args, code, out, errs, tc.code, tc.want)
		}
	}
}
