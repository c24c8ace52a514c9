package ui

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// TestBehind: of several SOCI v1 indexes those are marked that give way to the one that
// was made here.
func TestBehind(t *testing.T) {
	soci := func(name, from string) Referrer {
		return Referrer{Digest: digest.FromString(name), ArtifactType: oci.MediaTypeSOCIIndexV1, From: from}
	}
	made, theirs, pushed := soci("made", "here"), soci("theirs", "upstream"), soci("pushed", "pushed")
	sbom := Referrer{Digest: digest.FromString("sbom"), ArtifactType: "application/spdx+json", From: "upstream"}
	for name, tt := range map[string]struct {
		list   []Referrer
		behind []bool
	}{
		"ours and the upstream's": {[]Referrer{made, sbom, theirs}, []bool{false, false, true}},
		"a pushed one first":      {[]Referrer{pushed, made}, []bool{true, false}},
		"none of ours":            {[]Referrer{theirs, sbom, pushed}, []bool{false, false, false}},
		"nothing":                 {nil, nil},
	} {
		putBehind(tt.list)
		for i, x := range tt.list {
			if want := map[bool]digest.Digest{true: made.Digest}[tt.behind[i]]; x.Behind != want {
				t.Errorf("%s: %d is behind %q, want %q", name, i, x.Behind, want)
			}
		}
	}
}
