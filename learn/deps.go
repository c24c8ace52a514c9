package learn

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Store is what a Learner needs of the store.
type Store interface {
	View(ctx context.Context, fn func(storage.Tx) error) error
	Update(ctx context.Context, fn func(storage.Tx) error) error
}

// Publish is told that what was learnt of an image has changed, and sees to it
// that the right index is offered. Its error is logged where it is made.
type Publish func(ctx context.Context, manifest digest.Digest)

// Warm brings ranges of layers from the upstream of repo, in their order, as far
// as they are not here; r is why. It returns at once.
type Warm func(r *http.Request, repo oci.Repo, manifest digest.Digest, ranges []storage.LayerRange)
