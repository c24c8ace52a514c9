package oci

import (
	"fmt"
	"regexp"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var platformGrammar = regexp.MustCompile(`^[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?$`)

// ParsePlatform reads os/architecture or os/architecture/variant.
func ParsePlatform(s string) (v1.Platform, error) {
	if !platformGrammar.MatchString(strings.ToLower(s)) {
		return v1.Platform{}, fmt.Errorf("%q is not a platform: write os/architecture, such as linux/arm64", clip(s))
	}
	parts := append(strings.SplitN(s, "/", 3), "")
	return v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}, nil
}

// SamePlatform compares two platforms by their usual names.
func SamePlatform(a, b v1.Platform) bool { return PlatformName(a) == PlatformName(b) }

// PlatformName is a platform as it is usually written: without the variants
// that every machine has.
func PlatformName(p v1.Platform) string {
	arch, variant := strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch arch {
	case "x86_64", "x86-64":
		arch = "amd64"
	case "aarch64":
		arch = "arm64"
	}
	switch {
	case arch == "amd64" && variant == "v1", arch == "arm64" && (variant == "v8" || variant == "8"):
		variant = ""
	case arch == "arm" && variant == "":
		variant = "v7"
	}
	name := strings.ToLower(p.OS) + "/" + arch
	if variant != "" {
		name += "/" + variant
	}
	return name
}

// RealPlatform reports the platform of an image that runs somewhere:
// attestations in an index have one that is unknown.
func RealPlatform(p *v1.Platform) bool {
	return p != nil && p.OS != "unknown" && p.Architecture != "unknown"
}
