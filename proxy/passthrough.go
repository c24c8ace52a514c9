package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// headPassed answers HEAD of a blob where pushes go through: whoever is told that
// it is there does not send it, so that the upstream is asked. It does not answer
// for what was made here, nor when the upstream does not.
func (p *Proxy) headPassed(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest) (bool, error) {
	if r.Method != http.MethodHead || up.pusher() == nil || up.Offline {
		return false, nil
	}
	row, err := p.store.Stat(r.Context(), d)
	if err == nil && derivedFrom(row) != "" {
		return false, nil
	}
	err = p.store.View(r.Context(), func(tx storage.Tx) error { return storage.NotBlocked(tx, d) })
	if err != nil {
		return true, blobError(d, err)
	}
	n, err := up.Registry.HeadBlob(r.Context(), repo.Name, d)
	switch {
	case err == nil:
	case upstream.IsNotFound(err), upstream.IsDenied(err) && !up.Credentials, r.Context().Err() != nil:
		return true, blobError(d, err)
	default:
		return false, nil
	}
	p.grant(up, repo, d)
	blobHeaders(w, d)
	p.outcome(w, r, outcomeMiss)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	w.WriteHeader(http.StatusOK)
	return true, nil
}

// passDelete has the upstream delete a tag or manifest, and forgets what is known
// here of it. Its bytes are evicted in their time.
func (p *Proxy) passDelete(r *http.Request, up *Upstream, repo oci.Repo, ref oci.Reference) error {
	if err := up.pusher().DeleteManifest(r.Context(), repo.Name, ref); err != nil {
		if upstream.IsNotFound(err) {
			return err
		}
		return p.passError("delete "+ref.String()+" of "+repo.String(), err)
	}
	var subject *v1.Descriptor
	err := p.store.Update(context.WithoutCancel(r.Context()), func(tx storage.Tx) (err error) {
		subject, err = p.forgetPassed(tx, r, repo, ref)
		return err
	})
	if err != nil { // the upstream's next answer tells
		p.log.ErrorContext(r.Context(), "deleted manifest is not forgotten", "repo", repo, "ref", ref, "err", err)
	}
	if ref.Digest != "" {
		p.index.Deleted(context.WithoutCancel(r.Context()), repo, ref.Digest)
	}
	p.refersAnew(r, repo, ref, subject)
	return nil
}

// forgetPassed takes what was deleted at the upstream out of repo, and gives the
// subject of a manifest that had one.
func (p *Proxy) forgetPassed(tx storage.Tx, r *http.Request, repo oci.Repo, ref oci.Reference) (subject *v1.Descriptor, err error) {
	d := ref.Digest
	tags := []string{ref.Tag}
	if d == "" {
		row, err := tx.Tag(repo, ref.Tag)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		d = row.Digest
	} else {
		tags = nil
		err := tx.TagsOf(d, func(of oci.Repo, tag string) error {
			if of == repo {
				tags = append(tags, tag)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		p.revoke(repo, d)
		if err := tx.DeleteRight(repo, d); err != nil {
			return nil, err
		}
		if row, err := tx.Manifest(d); err == nil {
			subject = row.Manifest.Subject
		}
	}
	for _, tag := range tags {
		if err := tx.DeleteTag(repo, tag); err != nil {
			return nil, err
		}
	}
	e := oci.Event{Kind: oci.EventDelete, Repo: repo, Tag: ref.Tag}
	if d != "" {
		e.Target = p.manifestTarget(tx, d)
	}
	return subject, p.tell(tx, r, e)
}

// refersAnew has the list of the subject that a push or a deletion was about asked for anew:
// who signs an image and then verifies it must find the signature.
func (p *Proxy) refersAnew(r *http.Request, repo oci.Repo, ref oci.Reference, subject *v1.Descriptor) {
	if p.opt.Referrers == nil {
		return
	}
	var subjects []digest.Digest
	if subject != nil {
		subjects = append(subjects, subject.Digest)
	}
	if d, ok := taggedSubject(ref.Tag); ok {
		subjects = append(subjects, d)
	}
	for _, d := range subjects {
		if err := p.opt.Referrers.Changed(context.WithoutCancel(r.Context()), repo, d); err != nil {
			p.log.WarnContext(r.Context(), "a list of referrers may be outdated until it expires", "repo", repo, "digest", d, "err", err)
		}
	}
}
