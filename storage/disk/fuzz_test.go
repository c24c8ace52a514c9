package disk

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzNames has any text as digest or key: what becomes a path stays in its
// folder, and a digest is accepted exactly when it is a canonical one.
func FuzzNames(f *testing.F) {
	good := digest.FromString("x").String()
	for _, s := range []string{
		good, digest.SHA512.FromString("x").String(), strings.ToUpper(good), good[:70], "sha256:", ":", "", ".", "..",
		"../x", "sha256:../../../../../../../../../../../../../../../../../etc/passwd", "a/b", "a\x00b", "upload-1.x",
	} {
		f.Add(s)
	}
	d := &Disk{root: "/root/of/store"}
	f.Fuzz(func(t *testing.T, s string) {
		_, file, err := d.blobPath(digest.Digest(s))
		algorithm := digest.Digest(s)
		valid := algorithm.Validate() == nil && (algorithm.Algorithm() == digest.SHA256 || algorithm.Algorithm() == digest.SHA512)
		if valid != (err == nil) {
			t.Fatalf("blobPath(%q): %v, but valid is %t", s, err, valid)
		}
		if err == nil && (filepath.Clean(file) != file || !strings.HasPrefix(file, "/root/of/store/blobs/sha") || strings.Count(file, "/") != 7) {
			t.Fatalf("digest %q leads to %q", s, file)
		}
		if checkKey(s) == nil {
			file := d.path("partial", s)
			if filepath.Clean(file) != file || filepath.Dir(file) != "/root/of/store/partial" || strings.ContainsRune(file, 0) {
				t.Fatalf("key %q leads to %q", s, file)
			}
		}
	})
}
