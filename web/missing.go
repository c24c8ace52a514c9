package web

import (
	"context"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// MissingThing is something that clients asked for in vain.
type MissingThing struct {
	Repository string    `json:"repository"` // canonical
	Reference  string    `json:"reference"`  // a tag or digest; of a blob its digest
	Blob       bool      `json:"blob,omitempty"`
	Images     []string  `json:"images"` // what to export or warm for it: itself, or the images that have the blob
	Asked      int64     `json:"asked"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}

// MissingThings is Missing with the images to bring.
func MissingThings(ctx context.Context, v Viewer) ([]MissingThing, error) {
	list := []MissingThing{}
	err := v.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		return tx.AllMissing(func(row storage.MissingRow) error {
			x := MissingThing{row.Repo.String(), row.Reference, row.Blob, []string{}, row.Asked, row.First, row.Last}
			ref, err := oci.ParseReference(row.Reference)
			switch {
			case err == nil && !row.Blob:
				x.Images = append(x.Images, canonical(row.Repo, ref))
			case err == nil:
				x.Images, err = imagesWith(tx, row.Repo, ref.Digest)
			}
			list = append(list, x)
			return err
		})
	})
	return list, err
}

// imagesWith are the references of a repository's images that have a blob: by
// their tags, or where none leads to one by its digest.
func imagesWith(tx storage.Tx, repo oci.Repo, d digest.Digest) ([]string, error) {
	names, seen := []string{}, map[digest.Digest]bool{}
	var digests []string
	for todo := []digest.Digest{d}; len(todo) > 0; todo = todo[1:] {
		above := 0
		err := tx.NamedBy(todo[0], func(m digest.Digest) error {
			ok, err := tx.HasRight(repo, m)
			if err != nil || !ok || seen[m] {
				return err
			}
			seen[m], todo, above = true, append(todo, m), above+1
			return tx.TagsOf(m, func(of oci.Repo, tag string) error {
				if of == repo {
					names = append(names, canonical(repo, oci.Reference{Tag: tag}))
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		if above == 0 && todo[0] != d {
			digests = append(digests, canonical(repo, oci.Reference{Digest: todo[0]}))
		}
	}
	if len(names) > 0 {
		return names, nil
	}
	return append(names, digests...), nil
}

func (s *Web) missing(w http.ResponseWriter, r *http.Request) error {
	list, err := MissingThings(r.Context(), s.opt.Store)
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}

// notMissing takes an image that is here off the list, with what it is made of.
func notMissing(tx storage.Tx, repo oci.Repo, ref oci.Reference, x oci.PulledImage) error {
	words := []string{ref.String(), x.Root.Digest.String()}
	for i := range x.Manifests {
		words = append(words, x.Manifests[i].Digest.String())
	}
	for i := range x.Blobs {
		words = append(words, x.Blobs[i].Digest.String())
	}
	for _, w := range words {
		if err := tx.DeleteMissing(repo, w); err != nil {
			return err
		}
	}
	return nil
}
