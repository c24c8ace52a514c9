package oci

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParsePlatforms(t *testing.T) {
	got, err := ParsePlatforms([]string{"linux/amd64", "linux/arm/v7"})
	want := []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v7"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := ParsePlatforms(nil); got != nil || err != nil {
		t.Errorf("of no words: %v, %v", got, err)
	}
	got, err = ParsePlatforms([]string{"linux/amd64", "linux", "windows"})
	if got != nil || err == nil || !strings.Contains(err.Error(), `"linux" is not a platform`) {
		t.Errorf("of a word that is none: %v, %v", got, err)
	}
}
