package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

// refuseOthers fails the images that are for none of the platforms asked for. Of an
// index the server has refused them; an image that is none it brings whatever that
// is for. Variants are not compared: images leave them out.
func refuseOthers(results []warmed, platforms []string) {
	for i := range results {
		r := &results[i]
		if r.Error != "" || len(platforms) == 0 || len(r.Platforms) == 0 {
			continue
		}
		if !slices.ContainsFunc(platforms, func(want string) bool {
			return slices.ContainsFunc(r.Platforms, func(is string) bool { return sameMachine(want, is) })
		}) {
			r.Error = fmt.Sprintf("it is for %s alone, not for %s", strings.Join(r.Platforms, ", "), strings.Join(platforms, ", "))
		}
	}
}

func sameMachine(a, b string) bool {
	x, err := oci.ParsePlatform(a)
	if err != nil {
		return false
	}
	y, err := oci.ParsePlatform(b)
	if err != nil {
		return false
	}
	x, y = oci.NormalPlatform(x), oci.NormalPlatform(y)
	return x.OS == y.OS && x.Architecture == y.Architecture
}

// named are the platforms of --platform: none where it is not given, or all.
func (f *imageFlags) named() []string {
	if slices.Contains(f.platforms, "all") {
		return nil
	}
	return f.platforms
}
