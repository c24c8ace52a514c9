package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/ztoc"
)

// command runs a command line and gives its exit code and output.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

const inputs = "../../ztoc/testdata/inputs/"

// expect runs a command that succeeds.
func expect(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := command(args...)
	if code != exitOK || errs != "" {
		t.Fatalf("%s: exit %d, %s", strings.Join(args, " "), code, errs)
	}
	return out
}

func TestZTOCBuild(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.ztoc")
	want := "sha256:c8243d620a7a5b27a922820c93f7cbe9962cdcb4899338c70627f97d45408129 67784 2\n"
	if got := expect(t, "ztoc", "build", inputs+"all-types.tar.gz", "-o", file, "--span-size", "4KiB"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	official, err := os.ReadFile("../../ztoc/testdata/ztocs/all-types.tar.gz.4096.ztoc")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, official) {
		t.Errorf("written: %d bytes of %d, %v", len(got), len(official), err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	var b BuiltZTOC
	if err := json.Unmarshal([]byte(expect(t, "ztoc", "build", "--json", "--span-size", "4096", inputs+"all-types.tar")), &b); err != nil {
		t.Fatal(err)
	}
	if b.Compression != "uncompressed" || b.Spans != 31 || b.Size != 4576 || b.LayerDigest != b.DiffID || b.LayerSize != b.UncompressedSize {
		t.Errorf("got %+v", b)
	}
}

func TestZTOCRefused(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"layer.tar.zst"}, "algorithm at offset 0: zstd, neither gzip nor tar: not supported", exitFailed},
		{[]string{"zlib-wrapped.gz"}, "gzip-header at offset 0: zlib stream, neither gzip nor tar", exitFailed},
		{[]string{"bad-crc.tar.gz"}, "of the member at 0: checksum does not match", exitFailed},
		{[]string{"plain-16k.tar", "--span-size", "0"}, "--span-size is 4KiB to 1GiB, not 0", exitUsage},
		{[]string{"plain-16k.tar", "--span-size", "2GiB"}, "--span-size is 4KiB to 1GiB, not 2GiB", exitUsage},
		{[]string{"truncated.tar.gz"}, "deflate at offset ", exitFailed},
		{[]string{"type-7.tar.gz"}, `tar-type at offset 512: tar entry of type '7': not supported`, exitFailed},
		{[]string{"plain-16k.tar", "--compression", "gzip"}, "deflate at offset 0: not gzip", exitFailed},
		{[]string{"plain-16k.tar", "--compression", "zip"}, "--compression is auto, gzip or uncompressed", exitUsage},
		{[]string{"plain-16k.tar", "--span-size", "x"}, "is not a size", exitUsage},
		{[]string{"none"}, "no such file", exitFailed},
	} {
		tc.args[0] = inputs + tc.args[0]
		code, out, errs := command(append([]string{"ztoc", "build"}, tc.args...)...)
		if code != tc.code || out != "" || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q", tc.args, code, out, errs, tc.code, tc.want)
		}
	}
	code, out, errs := command("ztoc", "build", "--json", inputs+"not-a-tar.gz")
	var got struct{ Error Failure }
	if err := json.Unmarshal([]byte(errs), &got); err != nil || code != exitFailed || out != "" {
		t.Fatalf("as JSON: exit %d, %q, %q, %v", code, out, errs, err)
	}
	if f := got.Error; f.Class != "tar-header" || f.Offset == nil || *f.Offset != 512 || !strings.Contains(f.Message, "not-a-tar.gz: tar-header at offset 512") {
		t.Errorf("as JSON: %s", errs)
	}
}

// TestZTOCInfo compares with what the official library finds in the zTOC that it
// makes of the same layer: ../../ztoc/testdata/info, which e2e/ztocbench checks.
func TestZTOCInfo(t *testing.T) {
	wanted, err := filepath.Glob("../../ztoc/testdata/info/*.json")
	if err != nil || len(wanted) < 5 {
		t.Fatalf("%d files, %v", len(wanted), err)
	}
	for _, path := range wanted {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		span := filepath.Ext(name)[1:]
		file := filepath.Join(t.TempDir(), "a.ztoc")
		expect(t, "ztoc", "build", inputs+strings.TrimSuffix(name, "."+span), "-o", file, "--span-size", span)
		if got := expect(t, "ztoc", "info", file); got != string(want) {
			t.Errorf("%s: got\n%.500s\nwant\n%.500s", name, got, want)
		}
	}
	if code, _, errs := command("ztoc", "info", inputs+"plain-16k.tar"); code != exitFailed || !strings.Contains(errs, "invalid ztoc") {
		t.Errorf("of a tar: exit %d, %s", code, errs)
	}
}

func TestZTOCVerify(t *testing.T) {
	dir := t.TempDir()
	good, other := filepath.Join(dir, "good"), filepath.Join(dir, "other")
	expect(t, "ztoc", "build", inputs+"zlib-6.tar.gz", "-o", good, "--span-size", "4096")
	expect(t, "ztoc", "build", inputs+"zlib-1.tar.gz", "-o", other)
	if got := expect(t, "ztoc", "verify", inputs+"zlib-6.tar.gz", good); !strings.Contains(got, "is the zTOC of") {
		t.Errorf("good: %q", got)
	}
	code, out, errs := command("ztoc", "verify", "--json", inputs+"zlib-6.tar.gz", other)
	var v VerifiedZTOC
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitFailed || v.Match || !strings.Contains(v.Differs, "is of a layer of") {
		t.Errorf("other: exit %d, %s, %s, %v", code, out, errs, err)
	}
	p, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	p = bytes.Replace(p, []byte("CLI v0.2"), []byte("CLI v0.9"), 1)
	if err := os.WriteFile(other, p, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command("ztoc", "verify", inputs+"zlib-6.tar.gz", other); code != exitFailed || !strings.Contains(errs, `build tool "AWS SOCI CLI v0.9"`) {
		t.Errorf("another tool's: exit %d, %s", code, errs)
	}
	expect(t, "ztoc", "build", inputs+"zlib-1.tar.gz", "-o", other)
	command("ztoc", "build", inputs+"full-flush-start.tar.gz", "-o", other)
	if code, _, errs := command("ztoc", "verify", inputs+"full-flush-start.tar.gz", other); code != exitFailed || !strings.Contains(errs, "clients reject the ztoc (nonmonotonic)") {
		t.Errorf("one that clients reject: exit %d, %s", code, errs)
	}
}

func TestZTOCGetFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ztoc")
	layer := inputs + "text-13m.tar.gz"
	expect(t, "ztoc", "build", layer, "-o", path, "--span-size", "1MiB")
	name := someFile(t, path)
	want := expect(t, "ztoc", "get-file", path, name, "--layer", layer)
	out := filepath.Join(t.TempDir(), "out")
	expect(t, "ztoc", "get-file", path, "/"+name, "--layer", layer, "-o", out)
	if got, err := os.ReadFile(out); err != nil || string(got) != want || want == "" {
		t.Errorf("%d bytes in the file, %d printed: %v", len(got), len(want), err)
	}
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{path, "none", "--layer", layer}, "no such file in layer", exitFailed},
		{[]string{path, name}, "--layer", exitUsage},
		{[]string{path, name, "--layer", inputs + "zlib-6.tar.gz"}, "span", exitFailed},
		{[]string{"sha256:1234", name, "--data", t.TempDir()}, "there is no store", exitFailed},
	} {
		code, out, errs := command(append([]string{"ztoc", "get-file"}, tc.args...)...)
		if code != tc.code || out != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("%v: exit %d, %.50q, %q; want %d, %q", tc.args, code, out, errs, tc.code, tc.want)
		}
	}
}

// someFile is the largest file that a zTOC lists.
func someFile(t *testing.T, path string) string {
	t.Helper()
	z, err := openZTOC(t.Context(), path, place{})
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var largest ztoc.Entry
	for e, err := range z.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Size > largest.Size {
			largest = e
		}
	}
	return largest.Name
}

// TestZTOCInStore reads a zTOC and a file of its layer out of a store that has
// the layer in spans, and then whole.
func TestZTOCInStore(t *testing.T) {
	dir := t.TempDir()
	layer, err := os.ReadFile(inputs + "text-13m.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := buildFrom(bytes.NewReader(layer), 1<<20, ztoc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fillStore(t, dir, r, layer, false)

	list := expect(t, "ztoc", "list", "--data", dir)
	want := "DIGEST" + strings.Repeat(" ", 69) + "SIZE      LAYER DIGEST"
	if !strings.HasPrefix(list, want) || !strings.Contains(list, r.Digest.String()) || !strings.Contains(list, r.LayerDigest.String()) {
		t.Errorf("list:\n%s\nwant\n%s", list, want)
	}
	if got := expect(t, "ztoc", "list", "--data", dir, "-q", "--image-ref", "docker.io/library/app"); got != r.Digest.String()+"\n" {
		t.Errorf("quiet list: %q", got)
	}
	if got := expect(t, "ztoc", "list", "--data", dir, "-q", "--ztoc-digest", "sha256:0"); got != "" && !strings.HasPrefix(r.Digest.String(), "sha256:0") {
		t.Errorf("of another digest: %q", got)
	}
	if got := expect(t, "ztoc", "list", "--data", dir, "--json"); !strings.Contains(got, `"layer_digest": "`+r.LayerDigest.String()) {
		t.Errorf("as JSON: %s", got)
	}

	short := r.Digest.String()[:len("sha256:")+12]
	if got := expect(t, "ztoc", "info", "--data", dir, short); !strings.Contains(got, `"num_files"`) {
		t.Errorf("info: %.100s", got)
	}
	path := filepath.Join(t.TempDir(), "a.ztoc")
	if err := writeFile(path, r); err != nil {
		t.Fatal(err)
	}
	name := someFile(t, path)
	file := expect(t, "ztoc", "get-file", path, name, "--layer", inputs+"text-13m.tar.gz")
	if got := expect(t, "ztoc", "get-file", "--data", dir, short, name); got != file {
		t.Errorf("out of spans: %d bytes of %d", len(got), len(file))
	}
	table, err := r.Table()
	if err != nil {
		t.Fatal(err)
	}
	for i := range table.Len() {
		if err := os.Remove(blobFile(dir, table.Span(i).Digest)); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := command("ztoc", "get-file", "--data", dir, short, name); code != exitFailed || !strings.Contains(errs, "is not whole in the store") {
		t.Errorf("spans are missing: exit %d, %s", code, errs)
	}
	fillStore(t, dir, r, layer, true)
	if got := expect(t, "ztoc", "get-file", "--data", dir, short, name); got != file {
		t.Errorf("out of the layer: %d bytes of %d", len(got), len(file))
	}
}

func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
}

// fillStore files an image of one layer that is indexed, and its bytes: whole or
// in spans.
func fillStore(t *testing.T, dir string, r *ztoc.Result, layer []byte, whole bool) {
	t.Helper()
	meta, err := bolt.Open(filepath.Join(dir, metaFile), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	blobs, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := storage.New(storage.Options{Blobs: blobs, Meta: meta})
	var z bytes.Buffer
	if _, err := r.WriteTo(&z); err != nil {
		t.Fatal(err)
	}
	put := func(kind storage.Kind, body []byte) {
		row := storage.BlobRow{Digest: digest.FromBytes(body), Size: int64(len(body)), Kind: kind}
		if err := store.Put(t.Context(), row, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(storage.KindZTOC, z.Bytes())
	if whole {
		put(storage.KindBlob, layer)
	} else {
		table, err := r.Table()
		if err != nil {
			t.Fatal(err)
		}
		for i := range table.Len() {
			s := table.Span(i)
			put(storage.KindSpan, layer[s.Off:s.End])
		}
	}
	image := storage.ImageRow{
		Manifest: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("m"), Size: 7},
		Repos:    []oci.Repo{{Upstream: "docker.io", Name: "library/app"}},
		Layers: []storage.ImageLayer{
			{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: r.LayerDigest, Size: r.LayerSize}, SpanSize: 1 << 20},
		},
	}
	err = store.Update(context.Background(), func(tx storage.Tx) error {
		return errors.Join(tx.PutImage(image), tx.PutLayer(storage.LayerRow{
			Digest: r.LayerDigest, SpanSize: 1 << 20, State: storage.LayerIndexed, ZTOC: r.Digest, ZTOCSize: r.Size, Spans: r.Spans,
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}
