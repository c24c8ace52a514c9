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

// ParsePlatforms is ParsePlatform of each word; the first that is none is the error.
func ParsePlatforms(words []string) (out []v1.Platform, err error) {
	for _, word := range words {
		p, err := ParsePlatform(word)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// SamePlatform compares two platforms by their usual names.
func SamePlatform(a, b v1.Platform) bool { return PlatformName(a) == PlatformName(b) }

// SameMachine compares two platforms but for their variants, which images often
// leave out.
func SameMachine(a, b v1.Platform) bool {
	a, b = NormalPlatform(a), NormalPlatform(b)
	return a.OS == b.OS && a.Architecture == b.Architecture
}

// PlatformName is a platform as it is usually written, and as containerd
// normalizes it: without the variants that every machine has.
func PlatformName(p v1.Platform) string {
	p = NormalPlatform(p)
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// NormalPlatform gives the names of one platform the same spelling.
func NormalPlatform(p v1.Platform) v1.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
	return p
}

// RealPlatform reports the platform of an image that runs somewhere:
// attestations in an index have one that is unknown.
func RealPlatform(p *v1.Platform) bool {
	return p != nil && p.OS != "unknown" && p.Architecture != "unknown"
}
