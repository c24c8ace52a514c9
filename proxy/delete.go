package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// deleteManifest deletes a tag, or a manifest with all tags that mean it
// (distribution specification, "Content Management"). Its bytes stay until they
// are collected.
func (p *Proxy) deleteManifest(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.target(w, r, oci.ActionDelete)
	if err != nil {
		return err
	}
	ref, err := oci.ParseReference(mux.Vars(r)["reference"])
	if err != nil {
		return err
	}
	note(r).reference = ref.String()
	err = p.store.Update(r.Context(), func(tx storage.Tx) error {
		if ref.Tag == "" {
			return dropManifest(tx, up, repo, ref.Digest)
		}
		if _, err := tx.Tag(repo, ref.Tag); err != nil {
			return err
		}
		if err := mayMove(tx, up, repo, ref.Tag, ""); err != nil {
			return err
		}
		return tx.DeleteTag(repo, ref.Tag)
	})
	if err != nil {
		return manifestError(repo, ref, err)
	}
	return deleted(w)
}

func deleted(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// dropManifest has repo no longer have the manifest d.
func dropManifest(tx storage.Tx, up *Upstream, repo oci.Repo, d digest.Digest) error {
	content, err := tx.Content(repo, d)
	if err != nil {
		return err
	}
	if !content.Manifest {
		return fmt.Errorf("manifest %s: %w", d, storage.ErrNotFound)
	}
	var tags []string
	err = tx.TagsOf(d, func(of oci.Repo, tag string) error {
		if of == repo {
			tags = append(tags, tag)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := mayMove(tx, up, repo, tag, ""); err != nil {
			return err
		}
		if err := tx.DeleteTag(repo, tag); err != nil {
			return err
		}
	}
	row, err := tx.Manifest(d)
	if err == nil && row.Manifest.Subject != nil {
		err = tx.DeleteReferrerIn(repo, row.Manifest.Subject.Digest, d)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return tx.DeleteContent(repo, d)
}

// deleteBlob has a repository no longer have a blob.
func (p *Proxy) deleteBlob(w http.ResponseWriter, r *http.Request) error {
	_, repo, err := p.target(w, r, oci.ActionDelete)
	if err != nil {
		return err
	}
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	note(r).digest = d.String()
	err = p.store.Update(r.Context(), func(tx storage.Tx) error {
		content, err := tx.Content(repo, d)
		if err != nil {
			return err
		}
		if content.Manifest {
			return fmt.Errorf("blob %s: %w", d, storage.ErrNotFound)
		}
		return tx.DeleteContent(repo, d)
	})
	if err != nil {
		return blobError(d, err)
	}
	return deleted(w)
}
