package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// idle reports that no job waits, is being done, or was given up.
func (p *proxy) idle(t *testing.T) bool {
	t.Helper()
	var jobs []json.RawMessage
	out, err := harness.Run(t.Context(), suite.Programs.Sociable, "jobs", "list", "--json", "--data", p.Data)
	if err == nil {
		err = json.Unmarshal(out, &jobs)
	}
	if err != nil {
		t.Fatalf("list jobs: %v: %s", err, out)
	}
	return len(jobs) == 0
}

// TestDeletedAtUpstream: with an image that is deleted through the proxy goes from its
// registry what was put there for it: the converted image, the index, and the tag
// under which that was listed.
func TestDeletedAtUpstream(t *testing.T) {
	i := image(t, realimage.ImageToolchain)
	file := filepath.Join(t.TempDir(), "config.yml")
	text := "index: {rules: [{repositories: [\"**\"], publish_upstream: true}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
	deletes, err := harness.StartRegistry(suite.ctx, suite.Programs.DockerRegistry, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deletes.Stop(); err != nil {
			t.Errorf("stop docker-registry: %v", err)
		}
	})
	u := guarded{url: deletes.URL()}
	p := startProxyWith(t, u.url, link.Options{}, []string{setting("push", "allow")}, "--config", file)
	if err := p.pushAs(t, u, i); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) *answer {
		t.Helper()
		a, err := request(t.Context(), deletes.Addr, http.MethodGet, "/v2/"+i.Repo()+path, "Accept", v1.MediaTypeImageIndex+", "+v1.MediaTypeImageManifest)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	path := repo(i.Repo())
	var index string
	eventually(t, 60*time.Second, "what was made at its registry", func() bool {
		list := sociEntries(decode[v1.Index](t, p.get(t, path+"/referrers/"+i.Digest.String())))
		if len(list) != 1 {
			return false
		}
		index = "/manifests/" + list[0].Digest.String()
		return ask(index).StatusCode == http.StatusOK && ask("/manifests/1-soci").StatusCode == http.StatusOK && p.idle(t)
	})
	if _, err := harness.Run(t.Context(), suite.Programs.Skopeo, "delete", "--tls-verify=false", "docker://"+p.Addr+"/"+upstream+"/"+i.Ref()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "nothing of it to be left there", func() bool {
		return ask(index).StatusCode == http.StatusNotFound && !strings.Contains(string(ask("/tags/list").body), `"1-soci"`) && p.idle(t)
	})
	if tags := string(ask("/tags/list").body); strings.Contains(tags, "sha256-") || strings.Contains(tags, `"1"`) {
		t.Errorf("tags there: %s", tags)
	}
}
