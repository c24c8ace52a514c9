package indexer

import (
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// ParsePlatform reads "linux/amd64" or "linux/arm/v7" and gives its canonical
// spelling, in which aarch64 is arm64 and arm64/v8 is arm64.
func ParsePlatform(s string) (string, error) {
	p, err := oci.ParsePlatform(s)
	if err != nil {
		return "", err
	}
	name := platformName(&p)
	if name == "" {
		return "", fmt.Errorf("%q is no platform that anything runs on", s)
	}
	return name, nil
}

// platformName is the canonical spelling of p; "" of none, and of what is no
// platform, as attestations have it.
func platformName(p *v1.Platform) string {
	if !oci.RealPlatform(p) || p.OS == "" || p.Architecture == "" {
		return ""
	}
	return oci.PlatformName(*p)
}
