package doctor

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestOnlyPlatform: an image that is in no list is for the platform that its config
// says, where one is asked for.
func TestOnlyPlatform(t *testing.T) {
	const amd64 = `{"os":"linux","architecture":"amd64"}`
	for name, tt := range map[string]struct {
		config, platform string
		gone             bool
		want             Verdict
		words            string
	}{
		"the same":          {amd64, "linux/amd64", false, OK, "lazy loading works"},
		"with a variant":    {`{"os":"linux","architecture":"arm64"}`, "linux/arm64/v8", false, OK, "lazy loading works"},
		"another":           {amd64, "linux/arm64", false, Fail, "it is for linux/amd64 alone, not for linux/arm64"},
		"nobody asks":       {amd64, "", false, OK, "lazy loading works"},
		"it says none":      {`{}`, "linux/arm64", false, OK, "lazy loading works"},
		"no config at all":  {`nothing`, "linux/arm64", false, OK, "lazy loading works"},
		"config is gone":    {amd64, "linux/amd64", true, Fail, "is not to be had: status 404"},
		"no platform":       {amd64, "arm", false, Fail, `"arm" is not a platform`},
		"none, unasked for": {amd64, "", true, OK, "lazy loading works"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSick(t)
			var m v1.Manifest
			if err := json.Unmarshal(s.manifests["1"], &m); err != nil {
				t.Fatal(err)
			}
			if m.Config.Digest = s.blob([]byte(tt.config)); tt.gone {
				delete(s.blobs, m.Config.Digest)
			}
			s.put(t, "1", v1.MediaTypeImageManifest, m)
			srv := httptest.NewServer(s)
			defer srv.Close()
			report, err := Walk(t.Context(), Options{Reference: strings.TrimPrefix(srv.URL, "http://") + "/up/app:1", Platform: tt.platform})
			if err != nil {
				t.Fatal(err)
			}
			last := report.Findings[len(report.Findings)-1]
			if last.Verdict != tt.want || !strings.Contains(last.What, tt.words) || tt.want == Fail && last.Step != "manifest" {
				t.Errorf("the walk ends in %+v, want %s: %q", last, tt.want, tt.words)
			}
		})
	}
}
