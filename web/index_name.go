package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// name finds the tags that lead to an image and the platform that indexes of
// images say it is for. Where none does, it gives the image's config.
func (x *Index) name(tx storage.Tx, row storage.ImageRow) (config digest.Digest, err error) {
	leads := []digest.Digest{x.Manifest}
	err = tx.NamedBy(x.Manifest, func(index digest.Digest) error {
		m, err := tx.Manifest(index)
		if err != nil {
			return ignoreNotFound(err)
		}
		i := slices.IndexFunc(m.Manifest.Manifests, func(d v1.Descriptor) bool { return d.Digest == x.Manifest })
		if i < 0 {
			return nil
		}
		leads = append(leads, index)
		if p := m.Manifest.Manifests[i].Platform; x.Platform == "" && oci.RealPlatform(p) {
			x.Platform = oci.PlatformName(*p)
		}
		return nil
	})
	if err != nil || len(row.Repos) == 0 {
		return "", err
	}
	names := make([]IndexName, len(row.Repos))
	for i, repo := range row.Repos {
		names[i].Repository, names[i].Withdrawn = repo.String(), row.WithdrawnFrom(repo)
	}
	for _, d := range leads {
		err := tx.TagsOf(d, func(repo oci.Repo, tag string) error {
			if i := slices.Index(row.Repos, repo); i >= 0 && !slices.Contains(names[i].Tags, tag) {
				names[i].Tags = append(names[i].Tags, tag)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	x.Repository, x.Tags, x.Withdrawn = names[0].Repository, names[0].Tags, names[0].Withdrawn
	if len(names) > 1 {
		x.Also = names[1:]
	}
	if x.Platform == "" {
		m, err := tx.Manifest(x.Manifest)
		if err == nil && m.Manifest.Config != nil {
			config = m.Manifest.Config.Digest
		}
		return config, ignoreNotFound(err)
	}
	return "", nil
}

// maxConfig bounds how much of an image's config is read.
const maxConfig = 4 << 20

// readPlatform asks the image's config for its platform where nothing else says
// it, and the config is here.
func (x *Index) readPlatform(ctx context.Context, v Viewer, config digest.Digest) error {
	s, ok := v.(interface {
		Open(ctx context.Context, d digest.Digest) (storage.Blob, error)
	})
	if !ok || config == "" {
		return nil
	}
	b, err := s.Open(ctx, config)
	if err != nil {
		return ignoreNotFound(err)
	}
	body := make([]byte, min(b.Size(), maxConfig))
	_, err = b.ReadAt(body, 0)
	if err = errors.Join(ignoreEnd(err), b.Close()); err != nil {
		return err
	}
	var p v1.Platform
	if json.Unmarshal(body, &p) == nil && p.OS != "" && p.Architecture != "" { // else it is no config of an image
		x.Platform = oci.PlatformName(p)
	}
	return nil
}

// saidPlatform is what an image says of itself, os/architecture[/variant], or "" where
// its config is not here or says nothing.
func saidPlatform(ctx context.Context, v Viewer, manifest digest.Digest) (string, error) {
	var config digest.Digest
	err := v.View(ctx, func(tx storage.Tx) error {
		m, err := tx.Manifest(manifest)
		if err == nil && m.Manifest.Config != nil {
			config = m.Manifest.Config.Digest
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return "", err
	}
	var x Index
	err = x.readPlatform(ctx, v, config)
	return x.Platform, err
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
