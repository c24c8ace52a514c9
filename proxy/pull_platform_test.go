package proxy

import (
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// TestPullStrict: an image that is no index and is for another platform than asked
// for is refused before a layer of it comes, where that is asked for.
func TestPullStrict(t *testing.T) {
	for name, tt := range map[string]struct {
		config   string
		platform string // "": all
		loose    bool
		want     string // "": it is taken
	}{
		"another":           {`{"os":"linux","architecture":"arm64"}`, "linux/s390x", false, "it is for linux/arm64 alone, not for linux/s390x"},
		"another system":    {`{"os":"windows","architecture":"amd64"}`, "linux/amd64", false, "it is for windows/amd64 alone, not for linux/amd64"},
		"another, as it is": {`{"os":"linux","architecture":"arm64"}`, "linux/s390x", true, ""},
		"the one":           {`{"os":"linux","architecture":"arm64"}`, "linux/arm64/v8", false, ""},
		"it says nothing":   {`{"architecture":"arm64"}`, "linux/s390x", false, ""},
		"no config":         {`[]`, "linux/s390x", false, ""},
		"none named":        {`{"os":"linux","architecture":"arm64"}`, "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegistry(t)
			s := newServer(t, g, nil)
			layer := random(100<<10, 3)
			config, d := g.addBlob("a/one", []byte(tt.config)), g.addBlob("a/one", layer)
			body := strings.Replace(image(config, d, len(layer)), `"size":2}`, `"size":`+strconv.Itoa(len(tt.config))+`}`, 1)
			g.addManifest("a/one", "1", v1.MediaTypeImageManifest, body)
			o := oci.PullOptions{Strict: !tt.loose}
			if tt.platform != "" {
				o.Platforms = platforms(t, tt.platform)
			}
			_, err := s.p.Pull(t.Context(), oci.Repo{Upstream: "up", Name: "a/one"}, tag1, o)
			_, unknown := s.store.Stat(t.Context(), digest.FromBytes(layer))
			switch {
			case tt.want == "" && (err != nil || unknown != nil):
				t.Errorf("%v, its layer: %v, want that it is here", err, unknown)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			case tt.want != "" && unknown == nil:
				t.Error("its layer was fetched")
			}
		})
	}
}
