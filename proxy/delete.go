package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// deleteManifest deletes a tag, or a manifest with all tags that mean it
// (distribution specification, "Content Management"). With a manifest goes what
// was there for it alone: that no longer counts for the quota. Bytes stay until
// they are collected.
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
	err = p.remove(r, up, repo, ref)
	if isNotThere(err) {
		if source, ok := p.servedAs(r, repo, ref.Digest); ok {
			ref = oci.Reference{Digest: source}
			err = p.remove(r, up, repo, ref)
		}
	}
	if isNotThere(err) {
		if err := p.undeletable(w, r, up, repo, ref); err != nil {
			return err
		}
	}
	if err != nil {
		return manifestError(repo, ref, err)
	}
	return deleted(w)
}

func isNotThere(err error) bool {
	return errors.Is(err, storage.ErrNotFound) || upstream.IsNotFound(err)
}

// remove deletes a tag, or a manifest with all tags that mean it.
func (p *Proxy) remove(r *http.Request, up *Upstream, repo oci.Repo, ref oci.Reference) error {
	if !up.Hosted {
		return p.passDelete(r, up, repo, ref)
	}
	return p.store.Update(r.Context(), func(tx storage.Tx) error {
		if ref.Tag == "" {
			return p.dropManifest(tx, r, up, repo, ref.Digest)
		}
		row, err := tx.Tag(repo, ref.Tag)
		if err != nil {
			return err
		}
		if err := mayMove(tx, up, repo, ref.Tag, ""); err != nil {
			return err
		}
		if err := tx.DeleteTag(repo, ref.Tag); err != nil {
			return err
		}
		return p.tell(tx, r, oci.Event{Kind: oci.EventDelete, Repo: repo, Tag: ref.Tag, Target: p.manifestTarget(tx, row.Digest)})
	})
}

func deleted(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// manifestTarget is what an event says of a manifest, as far as it is known.
func (p *Proxy) manifestTarget(tx storage.Tx, d digest.Digest) v1.Descriptor {
	row, err := tx.Manifest(d)
	if err != nil {
		return v1.Descriptor{Digest: d}
	}
	return descriptor(row)
}

// dropManifest has repo no longer have the manifest d. Those that refer to it
// are collected.
func (p *Proxy) dropManifest(tx storage.Tx, r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest) error {
	content, err := tx.Content(repo, d)
	if err != nil {
		return err
	}
	if !content.Manifest {
		return fmt.Errorf("manifest %s: %w", d, storage.ErrNotFound)
	}
	if err := errors.Join(mayDelete(tx, repo, d), mayLose(tx, up, repo, d)); err != nil {
		return err
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
	if err := storage.DropContent(tx, content, p.now()); err != nil {
		return err
	}
	if err := storage.Release(tx, repo, d, p.now()); err != nil {
		return err
	}
	return p.tell(tx, r, oci.Event{Kind: oci.EventDelete, Repo: repo, Target: p.manifestTarget(tx, d)})
}

// mayDelete refuses what an operator keeps.
func mayDelete(tx storage.Tx, repo oci.Repo, d digest.Digest) error {
	err := storage.NotPinnedIn(tx, repo, d)
	if errors.Is(err, storage.ErrPinned) {
		return &oci.Error{Code: errcode.ErrorCodeDenied, Err: err, Message: err.Error() + ": sociable unpin lets it go"}
	}
	return err
}

// maxAbove bounds how many images and indexes a deletion looks at that what goes
// may be part of: what it did not look at, it would break.
const maxAbove = 100_000

// mayLose refuses to take d out of an image that an immutable tag of repo stands
// for: the tag would stay, and the image be broken.
func mayLose(tx storage.Tx, up *Upstream, repo oci.Repo, d digest.Digest) error {
	if up.Hosting.Immutable == nil {
		return nil
	}
	above, seen := []digest.Digest{d}, map[digest.Digest]bool{d: true}
	for len(above) > 0 {
		var next []digest.Digest
		for _, d := range above {
			err := tx.NamedBy(d, func(m digest.Digest) error {
				if !seen[m] {
					seen[m], next = true, append(next, m)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if len(seen) > maxAbove {
			return oci.NewError(errcode.ErrorCodeDenied, "%s is part of more than %d images, which may be immutable: delete those first", d, maxAbove)
		}
		for _, m := range next {
			err := tx.TagsOf(m, func(of oci.Repo, tag string) error {
				if of == repo && up.Hosting.immutable(repo, tag) {
					return oci.NewError(errcode.ErrorCodeDenied, "%s is part of %s:%s, which is immutable", d, repo, tag)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		above = next
	}
	return nil
}

// deleteBlob has a repository no longer have a blob. What is a manifest there is
// deleted as one, by the rules for manifests.
func (p *Proxy) deleteBlob(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.target(w, r, oci.ActionDelete)
	if err != nil {
		return err
	}
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	note(r).digest = d.String()
	if !up.Hosted {
		w.Header().Set("Allow", "GET, HEAD")
		return oci.NewError(errcode.ErrorCodeUnsupported, "blobs of upstream %s are not deleted through this proxy: delete the manifests that name them", up.Name)
	}
	err = p.store.Update(r.Context(), func(tx storage.Tx) error {
		content, err := tx.Content(repo, d)
		if err != nil {
			return err
		}
		if content.Manifest {
			w.Header().Set("Allow", "GET, HEAD")
			return oci.NewError(errcode.ErrorCodeUnsupported, "%s is a manifest of %s: delete it as one, below manifests/", d, repo)
		}
		if err := errors.Join(mayDelete(tx, repo, d), mayLose(tx, up, repo, d)); err != nil {
			return err
		}
		if err := tx.DeleteContent(repo, d); err != nil {
			return err
		}
		return p.tell(tx, r, oci.Event{Kind: oci.EventDelete, Repo: repo, Target: blobTarget(d, content.Size)})
	})
	if errors.Is(err, storage.ErrNotFound) {
		if err := p.undeletableDigest(w, r, repo, d); err != nil {
			return err
		}
	}
	if err != nil {
		return blobError(d, err)
	}
	return deleted(w)
}
