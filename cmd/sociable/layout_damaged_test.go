package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestDamagedLayout: a blob that is not what its digest says is an error, not a
// layer that may not have a zTOC.
func TestDamagedLayout(t *testing.T) {
	whole := copyLayout(t, "single")
	x := created(t, whole, "--min-layer-size", "20000", "--span-size", "64KiB")[0]
	var l LayerInfo
	for _, l = range x.Layers {
		if l.ZTOC != "" {
			break
		}
	}
	flip := func(p []byte) []byte { p[len(p)/2] ^= 4; return p }
	cut := func(p []byte) []byte { return p[:len(p)-1000] }
	longer := func(p []byte) []byte { return append(p, 0) }
	for what, tc := range map[string]struct {
		blob string
		how  func([]byte) []byte
		args []string
		want string
	}{
		"layer, a bit":    {l.Digest.Encoded(), flip, []string{"index", "create", "--min-layer-size", "20000"}, "not those of its digest"},
		"layer, cut":      {l.Digest.Encoded(), cut, []string{"index", "create", "--min-layer-size", "20000"}, "is damaged: it has"},
		"layer, too long": {l.Digest.Encoded(), longer, []string{"index", "create", "--min-layer-size", "20000"}, "is damaged: it has"},
		"zTOC, cut":       {l.ZTOC.Encoded(), cut, []string{"ztoc", "info", l.ZTOC.String(), "--layout"}, "is damaged: it has"},
		"zTOC, too long":  {l.ZTOC.Encoded(), longer, []string{"ztoc", "info", l.ZTOC.String(), "--layout"}, "is damaged: it has"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "lay")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "blobs/sha256", tc.blob)
			p, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tc.how(p), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, stderr := program(t, exitFailed, append(tc.args, dir)...); !strings.Contains(stderr, tc.want) {
				t.Errorf("got %q, want %q", stderr, tc.want)
			}
		})
	}
}

// replaceLayer makes other bytes a layer of the one image of a layout.
func replaceLayer(t *testing.T, dir, layer string, size int, body []byte) {
	t.Helper()
	blob := func(hex string) string { return filepath.Join(dir, "blobs/sha256", hex) }
	read := func(path string) []byte {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	write := func(path string, p []byte) {
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	idx, err := layout{dir: dir}.index()
	if err != nil {
		t.Fatal(err)
	}
	image := idx.Manifests[0]
	now := digest.FromBytes(body).Encoded()
	write(blob(now), body)
	m := read(blob(image.Digest.Encoded()))
	at := bytes.Index(m, []byte(layer))
	old := fmt.Appendf(nil, "%d", size)
	from := bytes.LastIndexByte(m[:at], '{')
	to := at + bytes.IndexByte(m[at:], '}')
	entry := bytes.Replace(m[from:to], []byte(layer), []byte(now), 1)
	entry = bytes.Replace(entry, old, fmt.Append(nil, len(body)), 1)
	m = bytes.Join([][]byte{m[:from], entry, m[to:]}, nil)
	write(blob(digest.FromBytes(m).Encoded()), m)
	p := bytes.Replace(read(filepath.Join(dir, "index.json")), []byte(image.Digest), []byte(digest.FromBytes(m)), 1)
	p = bytes.Replace(p, fmt.Append(nil, image.Size), fmt.Append(nil, len(m)), 1)
	write(filepath.Join(dir, "index.json"), p)
}

// TestZTOCFaults: what is wrong is said, and nothing is left behind.
func TestZTOCFaults(t *testing.T) {
	lay, dir := copyLayout(t, "single"), t.TempDir()
	empty, gz, short := filepath.Join(dir, "empty"), "../../ztoc/testdata/inputs/all-types.tar.gz", filepath.Join(dir, "short")
	for path, body := range map[string]string{empty: "", short: "abc"} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	z := filepath.Join(dir, "z")
	expect(t, "ztoc", "build", gz, "-o", z)
	fresh := filepath.Join(dir, "fresh")
	for _, tc := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"ztoc", "build", "-"}, "standard input: it is empty", exitFailed},
		{[]string{"ztoc", "build", "--compression", "zip", filepath.Join(dir, "none")}, "--compression is auto", exitUsage},
		{[]string{"ztoc", "info", empty}, "is an empty file", exitFailed},
		{[]string{"ztoc", "info", gz}, "is a gzip file", exitFailed},
		{[]string{"ztoc", "info", short}, "is too short for a zTOC", exitFailed},
		{[]string{"ztoc", "info", filepath.Join(lay, "index.json")}, "is JSON", exitFailed},
		{[]string{"ztoc", "info", "-"}, "is not read from standard input here", exitUsage},
		{[]string{"ztoc", "verify", "-", z}, "is not read from standard input here", exitUsage},
		{[]string{"index", "create", lay, "--data", dir}, "--data goes with an image in a store", exitUsage},
		{[]string{"index", "create", lay, "--span-size", "4095"}, "--span-size is 4KiB to 1GiB, not 4095", exitUsage},
		{[]string{"index", "create", lay, "--platform", "linux/s390x", "-o", fresh}, "has no image for linux/s390x", exitFailed},
		{[]string{"index", "create", lay, "-o", fresh}, "no layer of", exitFailed},
		{[]string{"index", "create", lay, "-c", filepath.Join(dir, "nope.yml")}, "sociable: ", exitUsage},
	} {
		if _, stderr := program(t, tc.code, tc.args...); !strings.Contains(stderr, tc.want) || !strings.HasPrefix(stderr, "sociable: ") {
			t.Errorf("%v: %q, want %q", tc.args, stderr, tc.want)
		}
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a layout was left in which nothing is")
	}
}
