package web

import (
	"context"
	"net/http"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Missing lists what clients asked for in vain, by repository.
func Missing(ctx context.Context, v Viewer) ([]storage.MissingRow, error) {
	list := []storage.MissingRow{}
	err := v.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		return tx.AllMissing(func(row storage.MissingRow) error {
			list = append(list, row)
			return nil
		})
	})
	return list, err
}

func (s *Web) missing(w http.ResponseWriter, r *http.Request) error {
	list, err := Missing(r.Context(), s.opt.Store)
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
