package web

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Images knows what images' names mean here, and brings them; *proxy.Proxy is one.
type Images interface {
	// Name reads an image's name in any spelling; an *oci.Error says what is
	// wrong with it.
	Name(word string) (oci.Repo, oci.Reference, error)
	// Literal is Name of one written out in full, whose upstream has to be
	// configured here by its first part.
	Literal(word string) (oci.Repo, oci.Reference, error)
	// Pull brings an image here; its errors are for people.
	Pull(ctx context.Context, repo oci.Repo, ref oci.Reference, o oci.PullOptions) (oci.PulledImage, error)
}

// Indexing is told of images and tells how far their indexes are;
// *indexer.Indexer is one.
type Indexing interface {
	Manifest(ctx context.Context, repo oci.Repo, row storage.ManifestRow) error
	Whole(d digest.Digest)
	State(ctx context.Context, manifest digest.Digest) (oci.IndexState, error)
	// Offers reports whether the index of an image is for those who pull it from repo.
	Offers(tx storage.Tx, repo oci.Repo, subject digest.Digest) (bool, error)
}
