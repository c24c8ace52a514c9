package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// servedAs gives the image of repo that a tag leads to at which its converted form d
// is served instead: who deletes the digest that they were given means that.
func (p *Proxy) servedAs(r *http.Request, repo oci.Repo, d digest.Digest) (source digest.Digest, ok bool) {
	if d == "" || p.opt.Converter == nil || !p.sees(r, repo) {
		return "", false
	}
	err := p.store.View(r.Context(), func(tx storage.Tx) error {
		row, err := tx.Blob(d)
		if err != nil || row.Kind != storage.KindIndex {
			return err
		}
		made, err := tx.Conversion(row.Of, repo)
		if err != nil || made.Index.Digest != d {
			return err
		}
		return tx.TagsOf(row.Of, func(of oci.Repo, tag string) error {
			if of == repo && p.opt.Converter.ConvertedInPlace(repo, tag) {
				source, ok = row.Of, true
			}
			return nil
		})
	})
	return source, ok && err == nil
}

// undeletable is what a deletion is answered that found nothing under ref in repo,
// where its caller reads something there that was made here: to say that it is not
// there would have them believe that it is gone. It is nil where that is not so.
func (p *Proxy) undeletable(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, ref oci.Reference) error {
	if ref.Digest != "" {
		return p.undeletableDigest(w, r, repo, ref.Digest)
	}
	if p.opt.Converter == nil || !p.sees(r, repo) {
		return nil
	}
	base, ok := p.opt.Converter.ConvertedAt(repo, ref.Tag)
	if !ok {
		return nil
	}
	got, err := p.manifestAtTag(r.Context(), up, repo, ref.Tag, true)
	if err != nil || !p.madeHere(r.Context(), got.desc) {
		return nil //nolint:nilerr // it is not there, or nobody knows
	}
	return wasMade(w, fmt.Sprintf("tag %s of %s stands for what was made here of %s", ref.Tag, repo, base), absentKey(repo, base))
}

// undeletableDigest is undeletable of a manifest or blob.
func (p *Proxy) undeletableDigest(w http.ResponseWriter, r *http.Request, repo oci.Repo, d digest.Digest) error {
	if !p.sees(r, repo) {
		return nil
	}
	var row storage.BlobRow
	made := false
	err := p.store.View(r.Context(), func(tx storage.Tx) (err error) {
		if row, err = tx.Blob(d); err == nil && (row.Kind == storage.KindIndex || row.Kind == storage.KindZTOC) {
			made, err = p.has(tx, repo, d, derivedFrom(row))
		}
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil || !made {
		return err
	}
	of := ""
	if row.Of != "" {
		of = " of " + row.Of.String()
	}
	return wasMade(w, fmt.Sprintf("%s in %s was made here%s", d, repo, of), "IMAGE")
}

func wasMade(w http.ResponseWriter, what, image string) error {
	w.Header().Set("Allow", "GET, HEAD")
	return oci.NewError(errcode.ErrorCodeUnsupported,
		"%s, and was not pushed, so that there is nothing to delete: it goes with its image, and `sociable index rm %s` has it offered no more", what, image)
}
