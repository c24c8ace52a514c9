package indexer

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxTags bounds how many of an image's tags are remembered for the rules.
const maxTags = 64

// namesOf sorts an image's tags by the repositories that they are in.
func namesOf(img *storage.ImageRow) []named {
	names := make([]named, 0, len(img.Repos))
	for _, repo := range img.Repos {
		names = append(names, nameIn(img, repo))
	}
	return names
}

func nameIn(img *storage.ImageRow, repo oci.Repo) named {
	n := named{repo: repo}
	for _, ref := range img.Tags {
		if tag, ok := strings.CutPrefix(ref, repo.String()+":"); ok {
			n.tags = append(n.tags, tag)
		}
	}
	return n
}

// seeNames adds to the row of image d the tags that lead to it by now, and its
// platform where an index tells it. A tag that moved away stays: who runs what
// it led to still wants the index.
func seeNames(tx storage.Tx, d digest.Digest, img *storage.ImageRow) error {
	roots, err := rootsOf(tx, d)
	if err != nil {
		return err
	}
	if img.Platform == "" {
		img.Platform = platformIn(roots, d)
	}
	for _, root := range roots {
		err := tx.TagsOf(root.Digest, func(repo oci.Repo, tag string) error {
			ref := repo.String() + ":" + tag
			if slices.Contains(img.Repos, repo) && len(img.Tags) < maxTags && !slices.Contains(img.Tags, ref) {
				img.Tags = append(img.Tags, ref)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rootsOf gives what a tag that leads to the image d may name: itself, of which
// only the digest is set, and the indexes that name it, by digest.
func rootsOf(tx storage.Tx, d digest.Digest) ([]storage.ManifestRow, error) {
	roots := []storage.ManifestRow{{Digest: d}}
	err := tx.NamedBy(d, func(by digest.Digest) error {
		row, err := tx.Manifest(by)
		if err == nil && row.Manifest.IsIndex() {
			roots = append(roots, row)
		}
		return ignoreNotFound(err)
	})
	return roots, err
}

// platformIn is what the first index that tells it says that d is for.
func platformIn(roots []storage.ManifestRow, d digest.Digest) string {
	for i := range roots {
		for j := range roots[i].Manifest.Manifests {
			c := &roots[i].Manifest.Manifests[j]
			if name := platformName(c.Platform); c.Digest == d && name != "" {
				return name
			}
		}
	}
	return ""
}
