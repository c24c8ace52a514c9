package proxy

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestTaggedSubject(t *testing.T) {
	d := digest.FromString("subject")
	long := digest.SHA512.FromString("subject")
	for tag, want := range map[string]digest.Digest{
		"sha256-" + d.Encoded():             d,
		"sha256-" + d.Encoded() + ".sig":    "", // cosign's own schema
		"sha256-" + d.Encoded()[1:]:         "",
		"sha256-" + strings.Repeat("g", 64): "",
		"sha512-" + long.Encoded()[:64]:     "",
		"latest":                            "",
		"v1-2":                              "",
	} {
		if got, ok := taggedSubject(tag); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s, %t, want %q", tag, got, ok, want)
		}
	}
}
