package main

import (
	"testing"

	"github.com/sociable/sociable/indexer"
)

// TestExplainNothing: nothing is said to be published of an image of which no layer is
// indexed.
func TestExplainNothing(t *testing.T) {
	small, layer := ExplainedLayer{Reason: "too-small"}, ExplainedLayer{Indexed: true}
	image := func(layers ...ExplainedLayer) ExplainedImage { return ExplainedImage{Layers: layers} }
	const some = "v1, a referrer of each platform's manifest; v2, once a tag leads to it"
	for name, tt := range map[string]struct {
		images []ExplainedImage
		want   string
	}{
		"all are left out":       {[]ExplainedImage{image(small, small), image()}, "none: no layer of it is indexed"},
		"one is not":             {[]ExplainedImage{image(small), image(small, layer)}, some},
		"one was, before":        {[]ExplainedImage{image(ExplainedLayer{Reason: "too-small", Now: "indexed, 3 spans"})}, some},
		"it carries an index":    {[]ExplainedImage{{Note: "a SOCI index", asItIs: true}}, "none: no layer of it is indexed"},
		"a manifest is not here": {[]ExplainedImage{image(small), {Note: "its manifest is not here"}}, some},
		"no image is known":      {nil, some},
	} {
		of := offer{rule: &indexer.Rule{PublishUpstream: indexer.PublishUpstreamAll}, v1: true, v2: true}
		of.nothing(tt.images)
		if got := of.text(); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if up := of.upstreamText(""); (up == "nothing") != (tt.want != some) {
			t.Errorf("%s: at the upstream %q", name, up)
		}
	}
}
