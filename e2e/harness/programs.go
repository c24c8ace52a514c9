package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Programs are the paths of everything that is run.
type Programs struct {
	Sociable       string // the product
	Crane          string // github.com/google/go-containerregistry
	Registry       string // distribution 3
	DockerRegistry string // Debian's docker-registry, distribution 2.8
	Skopeo         string // Debian's
	Podman         string // Debian's
	Buildah        string // Debian's
}

// Build compiles the programs that are Go modules into dir and finds the
// others. module is the folder of the e2e module, whose go.mod says which
// versions. A sociable that is built already can be given by the environment
// variable E2E_SOCIABLE. The error names every program that is missing.
func Build(ctx context.Context, module, dir string) (*Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p := &Programs{
		Sociable: filepath.Join(dir, "sociable"),
		Crane:    filepath.Join(dir, "crane"),
		Registry: filepath.Join(dir, "registry"),
	}
	given := os.Getenv("E2E_SOCIABLE")
	for _, b := range []struct{ out, in, pkg string }{
		{p.Sociable, filepath.Join(module, ".."), "./cmd/sociable"},
		{p.Crane, module, "github.com/google/go-containerregistry/cmd/crane"},
		{p.Registry, module, "github.com/distribution/distribution/v3/cmd/registry"},
	} {
		if b.out == p.Sociable && given != "" {
			p.Sociable = given
			continue
		}
		if err := GoBuild(ctx, b.in, b.pkg, b.out); err != nil {
			return nil, err
		}
	}
	var missing []error
	for _, f := range []struct {
		path *string
		name string
	}{{&p.DockerRegistry, "docker-registry"}, {&p.Skopeo, "skopeo"}, {&p.Podman, "podman"}, {&p.Buildah, "buildah"}} {
		if *f.path, err = exec.LookPath(f.name); err != nil {
			missing = append(missing, fmt.Errorf("%s is missing: install Debian's package %[1]s", f.name))
		}
	}
	return p, errors.Join(missing...)
}

// GoBuild compiles a program of a module, whose folder is given, into the file out.
func GoBuild(ctx context.Context, module, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}
