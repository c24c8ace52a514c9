package main

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// TestExplainSignedHere: a signature that was pushed here is seen here, and that the v2
// image has none is said.
func TestExplainSignedHere(t *testing.T) {
	cfg := Default()
	cfg.Storage.Path = t.TempDir()
	cfg.Hosted = map[string]*HostedConfig{"local": {}}
	layer := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromString("layer"), Size: 20 << 20}
	image := web.Facts{
		Reference: "local/app:1", Repository: "local/app", Tags: []string{"1"}, Digest: digest.FromString("image"),
		Images: []web.PlatformFacts{{Known: true, Layers: []v1.Descriptor{layer}}},
	}
	signature := "local/app:" + oci.AttachedTags(image.Digest)[0]
	for name, tt := range map[string]struct {
		have     []string
		signed   string
		warnings int
	}{
		"signed":   {[]string{"local/app:1", signature}, "by cosign, at the tag sha256-" + image.Digest.Encoded() + ".sig", 1},
		"unsigned": {[]string{"local/app:1"}, "not known: what is pushed to local is in the store alone", 0},
	} {
		known := func(_ context.Context, word string) (web.Facts, error) {
			for _, have := range tt.have {
				if have == word {
					return image, nil
				}
			}
			return web.Facts{}, storage.ErrNotFound
		}
		x, err := (&explainer{cfg: cfg, known: known}).explain(t.Context(), "local/app:1")
		if err != nil {
			t.Fatal(err)
		}
		if x.Signed != tt.signed || len(x.Warnings) != tt.warnings || tt.warnings > 0 && !strings.Contains(x.Warnings[0], "covered by no signature") {
			t.Errorf("%s: signed %q, warnings %q, want %+v", name, x.Signed, x.Warnings, tt)
		}
	}
}
