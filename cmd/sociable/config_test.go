package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameValues compares configurations by what they say, not where they say it.
var sameValues = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}, UpstreamConfig{}, AuthConfig{}, TLSConfig{}, ImportConfig{}),
	cmpopts.EquateEmpty(),
}

// TestCommittedConfig keeps config.yml complete and true: it is the manual.
func TestCommittedConfig(t *testing.T) {
	const file = "../../config.yml"
	c, warnings, err := load(sources{File: file})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("load: %v, warnings %q", err, warnings)
	}
	if diff := cmp.Diff(Default(), c, sameValues); diff != "" {
		t.Errorf("config.yml does not have the defaults (-default +config.yml):\n%s", diff)
	}
	for _, l := range Default().leaves() {
		if name, _ := strings.CutPrefix(l.path, "upstreams."); name != l.path && !strings.HasPrefix(name, dockerHub+".") {
			continue // one upstream shows all the keys
		}
		if _, ok := c.origins[l.path]; !ok {
			t.Errorf("config.yml does not show %s", l.path)
		}
	}
	for _, f := range keysOf(reflect.TypeFor[IndexRule]()) {
		if _, ok := c.origins["index.rules[0]."+f.key]; !ok {
			t.Errorf("config.yml does not show index.rules[0].%s", f.key)
		}
	}
	checkComments(t, file, c)
}

// checkComments wants a comment above each key, except where one comment is for
// several keys in a row.
func checkComments(t *testing.T, file string, c *Config) {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(body), "\n")
	shared := []string{"upstreams.docker.io.password", "upstreams.docker.io.password_file", "index.rules[0].repositories"}
	for _, l := range append(c.leaves(), leaf{path: "upstreams"}, leaf{path: "index.rules[0].exclude"}, leaf{path: "index.rules[0].publish"}) {
		at, ok := c.origins[l.path]
		if !ok || slices.Contains(shared, l.path) {
			continue
		}
		line := at.line - 1
		if v := l.v; v.IsValid() && v.Kind() == reflect.Slice && v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			line-- // its value, and so its line, is the first item
		}
		if l.path == "upstreams" {
			line--
		}
		if !strings.HasPrefix(strings.TrimSpace(lines[line-1]), "#") {
			t.Errorf("config.yml:%d: %s has no comment", at.line, l.path)
		}
	}
}

// TestShowRoundTrip: what config show prints means what was loaded.
func TestShowRoundTrip(t *testing.T) {
	want := loadText(t, `
storage: {max_bytes: 12GB, min_free: 7.5%}
upstreams:
  ghcr.io: {aliases: [github], tag_ttl: 1h30m, max_connections: 3}
  mirror: {url: "http://127.0.0.1:5005", hosts: [mirror.example.com]}
index:
  rules:
    - {repositories: ["ghcr.io/**"], exclude: ["ghcr.io/a/b"], span_size: 1048577, publish: none}
`)
	out, err := want.show(true)
	if err != nil {
		t.Fatal(err)
	}
	got := loadText(t, string(out))
	if diff := cmp.Diff(want, got, sameValues); diff != "" {
		t.Errorf("after show (-loaded +shown):\n%s\n%s", diff, out)
	}
}

func TestLoadPrecedence(t *testing.T) {
	file := writeConfig(t, "listen: 127.0.0.1:1\nadmin: {listen: 127.0.0.1:2}\nlog: {level: warn}\nupstreams: {ghcr.io: {tag_ttl: 1m}}\n")
	c, _, err := load(sources{
		File:      file,
		Environ:   []string{"SOCIABLE_ADMIN_LISTEN=127.0.0.1:3", "SOCIABLE_LOG_LEVEL=error", "SOCIABLE_UPSTREAMS_NEW_TAG_TTL=3s", "HOME=/"},
		Upstreams: []string{"ghcr.io=http://127.0.0.1:9", "new=http://127.0.0.1:8/"},
		Flags:     []override{{"--log-level", "log.level", "debug"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.Admin.Listen, want.Log.Level = "127.0.0.1:1", "127.0.0.1:3", "debug"
	want.DefaultUpstream = "" // docker.io is not among the upstreams
	hub, added := defaultUpstream("ghcr.io"), defaultUpstream("new")
	hub.URL, hub.TagTTL = "http://127.0.0.1:9", time.Minute
	added.URL, added.TagTTL = "http://127.0.0.1:8", 3*time.Second
	want.Upstreams = map[string]*UpstreamConfig{"ghcr.io": hub, "new": added}
	if diff := cmp.Diff(want, c, sameValues); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{
		"listen": file + ":1", "admin.listen": "SOCIABLE_ADMIN_LISTEN", "log.level": "--log-level", "log.format": file + ":3",
		"upstreams.ghcr.io.url": "--upstream", "upstreams.ghcr.io.tag_ttl": file + ":4", "storage.path": "default",
	} {
		if got := c.origin(path).String(); got != want {
			t.Errorf("origin of %s = %s, want %s", path, got, want)
		}
	}
}

// TestUpstreamFlagWins: the flag has the last word on the URL, and the
// environment still finds what the flag named.
func TestUpstreamFlagWins(t *testing.T) {
	for name, file := range map[string]string{"new": "", "in the file": "upstreams: {lab: {url: 'http://127.0.0.1:1'}}\n"} {
		t.Run(name, func(t *testing.T) {
			c, _, err := load(sources{
				File: writeConfig(t, file),
				Environ: []string{
					"SOCIABLE_UPSTREAMS_LAB_URL=http://127.0.0.1:2", "SOCIABLE_UPSTREAMS_LAB_USERNAME=u", "SOCIABLE_UPSTREAMS_LAB_PASSWORD=p",
				},
				Upstreams: []string{"lab=http://127.0.0.1:3", "lab=http://127.0.0.1:4"},
			})
			if err != nil {
				t.Fatal(err)
			}
			lab := c.Upstreams["lab"]
			if user, pass, _ := lab.Credentials(); lab.URL != "http://127.0.0.1:4" || user != "u" || pass != "p" {
				t.Errorf("got %s as %s:%s, want http://127.0.0.1:4 as u:p", lab.URL, user, pass)
			}
			if got := c.origin("upstreams.lab.url").String(); got != "--upstream" {
				t.Errorf("origin of the URL = %s", got)
			}
		})
	}
}

// TestKubernetesService starts beside a Service named sociable: Kubernetes then
// tells every container of the namespace where that is.
func TestKubernetesService(t *testing.T) {
	_, _, err := load(sources{Environ: []string{
		"SOCIABLE_SERVICE_HOST=10.0.0.1", "SOCIABLE_SERVICE_PORT=5000", "SOCIABLE_SERVICE_PORT_REGISTRY=5000",
		"SOCIABLE_PORT=tcp://10.0.0.1:5000", "SOCIABLE_PORT_5000_TCP=tcp://10.0.0.1:5000", "SOCIABLE_PORT_5000_TCP_PROTO=tcp",
		"SOCIABLE_PORT_5000_TCP_PORT=5000", "SOCIABLE_PORT_5000_TCP_ADDR=10.0.0.1", "SOCIABLE_PORT_53_UDP=udp://10.0.0.1:53",
	}})
	if err != nil {
		t.Errorf("load: %v", err)
	}
	for _, name := range []string{
		"SOCIABLE_SERVICE", "SOCIABLE_SERVICE_HOSTS", "SOCIABLE_SERVICE_PORTS", "SOCIABLE_PORTS", "SOCIABLE_PORT_5000",
		"SOCIABLE_PORT_TCP", "SOCIABLE_PORT_5000_TCP_HOST", "SOCIABLE_MY_SERVICE_HOST",
	} {
		if _, _, err := load(sources{Environ: []string{name + "=x"}}); err == nil || !strings.Contains(err.Error(), name+": no such setting") {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		keys    string
		environ []string
		want    string
	}{
		"none":        {"{}", nil, " false"},
		"file":        {"{username: u, password_file: " + secret + "}", nil, "u from file true"},
		"inline":      {"{username: u, password: 007}", nil, "u 007 true"},
		"environment": {"{username: u}", []string{"SOCIABLE_UPSTREAMS_A_B_C_PASSWORD=from env"}, "u from env true"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := load(sources{File: writeConfig(t, "upstreams: {a-b.c: "+tt.keys+"}"), Environ: tt.environ})
			if err != nil {
				t.Fatal(err)
			}
			u, p, ok := c.Upstreams["a-b.c"].Credentials()
			if got := strings.TrimPrefix(fmt.Sprint(u, " ", p, " ", ok), " "); got != tt.want {
				t.Errorf("Credentials = %q, want %q", got, tt.want)
			}
		})
	}
}

func writeConfig(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func loadText(t testing.TB, text string) *Config {
	t.Helper()
	c, _, err := load(sources{File: writeConfig(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
