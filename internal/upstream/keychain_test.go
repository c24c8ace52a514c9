package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// TestDockerKeychain reads a configuration as docker login writes it, with a
// credential helper, and again after it was changed.
func TestDockerKeychain(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	write := func(file, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("docker-credential-test", `#!/bin/sh
read host
case "$host" in
helped.example) echo '{"ServerURL":"helped.example","Username":"helper","Secret":"h"}' ;;
broken.example) echo 'no such luck'; exit 1 ;;
esac
`, 0o700)
	file := filepath.Join(dir, "config.json")
	get := func(host string) (authn.AuthConfig, error) {
		t.Helper()
		reg, err := name.NewRegistry(host)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := authn.Resolve(t.Context(), DockerKeychain(file), reg)
		if err != nil {
			return authn.AuthConfig{}, err
		}
		cfg, err := auth.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		return *cfg, nil
	}
	if _, err := get("plain.example"); err == nil {
		t.Error("a file that is not there is none")
	}
	write("config.json", `{"auths":{"plain.example":{"auth":"cm9ib3Q6c2VjcmV0"},"https://index.docker.io/v1/":{"auth":"aHViOmg="},
		"token.example":{"identitytoken":"idt"}},"credHelpers":{"helped.example":"test","broken.example":"test"}}`, 0o600)
	for host, want := range map[string]authn.AuthConfig{
		"plain.example":   {Username: "robot", Password: "secret"},
		"index.docker.io": {Username: "hub", Password: "h"},
		"token.example":   {IdentityToken: "idt"},
		"helped.example":  {Username: "helper", Password: "h"},
		"other.example":   {},
	} {
		got, err := get(host)
		got.Auth = ""
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", host, got, err)
		}
	}
	if _, err := get("broken.example"); err == nil {
		t.Error("a helper that fails is nobody's credentials")
	}
	write("config.json", `{"auths":{"plain.example":{"auth":"cm9ib3Q6bmV3"}}}`, 0o600)
	if got, err := get("plain.example"); err != nil || got.Password != "new" {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	write("config.json", `{`, 0o600)
	if _, err := get("plain.example"); err == nil {
		t.Error("a broken file is none")
	}
}

// TestCheckDockerConfig: where Docker looks for it there may be none, but no
// broken one.
func TestCheckDockerConfig(t *testing.T) {
	dir := t.TempDir()
	docker := config.Dir()
	config.SetDir(dir)
	defer config.SetDir(docker)
	if err := CheckDockerConfig(""); err != nil {
		t.Errorf("none: %v", err)
	}
	file := filepath.Join(dir, "config.json")
	for text, want := range map[string]string{`{"auths":{}}`: "", `{bad`: file} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckDockerConfig(""); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
