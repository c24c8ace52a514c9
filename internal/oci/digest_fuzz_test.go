package oci

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzParseDigest holds ParseDigest against the library's own check.
func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{
		"", "sha256:", "sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("f", 63), "sha256:" + strings.Repeat("A", 64),
		"sha256:" + strings.Repeat("0", 63) + "g", "sha256:" + strings.Repeat("0", 65), "sha512:" + strings.Repeat("0", 128),
		"sha384:" + strings.Repeat("0", 96), "SHA256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 32) + "\n" + strings.Repeat("0", 31),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		want := digest.Digest(s)
		valid := want.Validate() == nil && (want.Algorithm() == digest.SHA256 || want.Algorithm() == digest.SHA512)
		if valid != (err == nil) || valid && d != want {
			t.Errorf("%q: %q, %v, want it valid: %t", s, d, err, valid)
		}
	})
}
