package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/realimage"
)

// TestRegistryTells: an image that is pushed straight to a registry, which tells the
// proxy of that, is indexed although nobody pulls it; pushed again, it stays as it is.
func TestRegistryTells(t *testing.T) {
	i := image(t, realimage.ImageToolchain)
	want, _, err := officialIndex(t, i, platformOf(i))
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{
		"docker-registry 2.8": suite.Programs.DockerRegistry,
		"distribution 3":      suite.Programs.Registry,
	} {
		t.Run(name, func(t *testing.T) {
			const secret = "0123456789abcdef0123"
			dir := t.TempDir()
			file := filepath.Join(dir, "config.yml")
			x, err := harness.NewProxy(suite.Programs, t.TempDir(), nil, "--config", file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := harness.StartRegistry(suite.ctx, program, t.TempDir(), "notifications:", "  endpoints:", fmt.Sprintf(
				"    - {name: sociable, url: %q, headers: {Authorization: [Bearer %s]}, timeout: 5s, threshold: 5, backoff: 1s}",
				"http://"+x.Addr+"/hooks/"+upstream, secret))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := r.Stop(); err != nil {
					t.Errorf("stop a registry: %v", err)
				}
			})
			text := fmt.Sprintf("upstreams: {%s: {url: %q, hook: {secret_file: %q}}}\n", upstream, r.URL(), filepath.Join(dir, "secret"))
			for path, text := range map[string]string{file: text, filepath.Join(dir, "secret"): secret + "\n"} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := x.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := x.Stop(); err != nil {
					t.Errorf("stop sociable: %v", err)
				}
				if t.Failed() {
					t.Logf("sociable's log:\n%s", x.Log())
				}
			})
			told := func() float64 {
				m, err := x.Metrics(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return m["sociable_hooks_queued_total"]
			}
			index := func() string {
				list, err := x.Indexes(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(list) != 1 {
					return ""
				}
				return list[0].Index
			}
			for range 2 {
				before := told()
				_, err := harness.Run(t.Context(), suite.Programs.Skopeo, "copy", "--insecure-policy", "--all", "--preserve-digests",
					"--src-tls-verify=false", "--dest-tls-verify=false",
					"docker://"+suite.Registry.Addr+"/"+i.Ref(), "docker://"+r.Addr+"/"+i.Ref())
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, 60*time.Second, "the registry's word", func() bool { return told() > before })
				eventually(t, 60*time.Second, "the index", func() bool { return index() == want.Digest.String() })
				eventually(t, 60*time.Second, "the end of what is to be done", func() bool {
					out, err := harness.Run(t.Context(), suite.Programs.Sociable, "jobs", "list", "--json", "--data", x.Data)
					return err == nil && strings.TrimSpace(string(out)) == "[]"
				})
			}
		})
	}
}
