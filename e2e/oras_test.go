package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// orasCommand builds the oras command and gives a function that runs it in a
// folder of the test's own.
func orasCommand(t *testing.T) (dir string, run func(args ...string) []byte) {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(".cache", "bin", "oras"))
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.GoBuild(t.Context(), "oras", "oras.land/oras/cmd/oras", program); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	return dir, func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = dir                               // where files are that it names
		cmd.Env = append(os.Environ(), "HOME="+dir) // no credentials
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("oras %v: %v\n%s", args, err, stderr.Bytes())
		}
		return out
	}
}

// TestOrasCommand pushes a file, attaches another to it, copies, lists, pulls and
// deletes them; and copies an image of an upstream to a hosted namespace, where it
// is indexed.
func TestOrasCommand(t *testing.T) {
	p := startProxy(t, link.Options{})
	dir, oras := orasCommand(t)
	name, copied := p.Addr+"/local/art/cmd", p.Addr+"/local/art/copied"
	body := bytes.Repeat([]byte("twelve bytes"), 100_000)
	for file, content := range map[string][]byte{"app.bin": body, "sbom.json": []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	oras("push", "--plain-http", "--artifact-type", "application/x-app", name+":1", "app.bin")
	oras("attach", "--plain-http", "--artifact-type", "application/spdx+json", name+":1", "sbom.json")
	oras("cp", "--recursive", "--from-plain-http", "--to-plain-http", name+":1", copied+":2")
	for _, ref := range []string{name + ":1", copied + ":2"} {
		if got := discover(t, oras, ref); len(got) != 1 || got[0].ArtifactType != "application/spdx+json" {
			t.Errorf("referrers of %s: %v, want the SBOM", ref, got)
		}
	}
	oras("pull", "--plain-http", "--output", "pulled", copied+":2")
	if got, err := os.ReadFile(filepath.Join(dir, "pulled", "app.bin")); err != nil || !bytes.Equal(got, body) {
		t.Errorf("pulled %d bytes, %v; want the %d that were pushed", len(got), err, len(body))
	}
	for list, args := range map[string][]string{
		"local/art/cmd local/art/copied": {"repo", "ls", "--plain-http", p.Addr},
		"2":                              {"repo", "tags", "--plain-http", copied},
	} {
		if got := strings.Join(strings.Fields(string(oras(args...))), " "); got != list {
			t.Errorf("oras %v: %q, want %q", args, got, list)
		}
	}
	sbom := discover(t, oras, name+":1")[0]
	oras("manifest", "delete", "--plain-http", "--force", name+"@"+sbom.Digest.String())
	if got := discover(t, oras, name+":1"); len(got) != 0 {
		t.Errorf("referrers after their deletion: %v", got)
	}
	if got := discover(t, oras, copied+":2"); len(got) != 1 {
		t.Errorf("referrers of the copy after that: %v, want the SBOM", got)
	}

	img := image(t, realimage.ImageSmall)
	oras("cp", "--from-plain-http", "--to-plain-http", p.ref(img), p.Addr+"/local/from-up:1")
	layer := img.Layers[0]
	oras("blob", "fetch", "--plain-http", "--output", "layer", p.Addr+"/local/from-up@"+layer.Digest.String())
	sameFile(t, filepath.Join(dir, "layer"), layer.Digest)
	p.awaitHostedIndex(t, "/v2/local/from-up", img.Digest)
}

// discover gives the referrers of an image, as oras shows them.
func discover(t *testing.T, oras func(...string) []byte, ref string) []v1.Descriptor {
	t.Helper()
	var list struct{ Referrers []v1.Descriptor }
	if out := oras("discover", "--plain-http", "--format", "json", ref); json.Unmarshal(out, &list) != nil {
		t.Fatalf("oras discover: %s", out)
	}
	return list.Referrers
}
