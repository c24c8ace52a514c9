package harness

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/sociable/sociable/e2e/realimage"
)

// Suite is what tests and benchmarks share: the programs, the images, and
// registries that hold every image.
type Suite struct {
	Cache    string // folder that outlives a run
	Programs *Programs
	Set      *realimage.Set
	Registry *Registry // distribution 3
	Debian   *Registry // Debian's docker-registry, over the same files
}

// NewSuite builds what is not there and starts the registries, which end with
// ctx. module is the folder of the e2e module.
func NewSuite(ctx context.Context, module string) (*Suite, error) {
	cache, err := filepath.Abs(filepath.Join(module, ".cache"))
	if err != nil {
		return nil, err
	}
	s := &Suite{Cache: cache}
	if s.Programs, err = Build(ctx, module, filepath.Join(cache, "bin")); err != nil {
		return nil, err
	}
	if s.Set, err = realimage.Prepare(ctx, cache); err != nil {
		return nil, err
	}
	root := filepath.Join(cache, "registry")
	if s.Registry, err = StartRegistry(ctx, s.Programs.Registry, root); err != nil {
		return nil, err
	}
	if err = s.Set.Push(ctx, s.Registry.Addr); err == nil {
		s.Debian, err = StartRegistry(ctx, s.Programs.DockerRegistry, root)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Stop stops the registries.
func (s *Suite) Stop() error {
	var errs []error
	for _, r := range []*Registry{s.Debian, s.Registry} {
		if r != nil {
			errs = append(errs, r.Stop())
		}
	}
	return errors.Join(errs...)
}
