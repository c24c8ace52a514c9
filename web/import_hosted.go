package web

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Hosting is what an Images may be that has namespaces of its own; *proxy.Proxy
// is one.
type Hosting interface {
	// Hosts reports whether repo is in such a namespace.
	Hosts(repo oci.Repo) bool
	// Host files an image, all of which is in the store, as if it had been pushed.
	Host(ctx context.Context, repo oci.Repo, blobs []digest.Digest, manifests []storage.ManifestRow, tags map[string]digest.Digest) error
}

func (s *Web) hosts(repo oci.Repo) bool {
	h, ok := s.opt.Images.(Hosting)
	return ok && h.Hosts(repo)
}

// host files an imported image in the hosted repository that it is of.
func (s *Web) host(ctx context.Context, repo oci.Repo, ref oci.Reference, q ImportRequest, rows []storage.ManifestRow) error {
	tags := map[string]digest.Digest{}
	if ref.Tag != "" {
		tags[ref.Tag] = q.Root
	}
	for _, m := range q.Manifests {
		if m.Tag != "" { // that it may was looked at before
			tags[m.Tag] = m.Digest
		}
	}
	return s.opt.Images.(Hosting).Host(ctx, repo, slices.Concat(q.Blobs, q.LeftOut), rows, tags)
}
