package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxTagParams bounds the tags that one request may set besides.
const maxTagParams = 100

// putManifest takes a manifest whose parts are here (distribution specification,
// "Pushing Manifests").
func (p *Proxy) putManifest(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.target(w, r, oci.ActionPush)
	if err != nil {
		return err
	}
	m, err := p.readManifest(r)
	if err != nil {
		return err
	}
	note(r).reference, note(r).digest = m.ref.String(), m.row.Digest.String()
	if !up.Hosted {
		return p.passManifest(w, r, up, repo, m)
	}
	what := fmt.Sprintf("push manifest %s to %s", m.ref, repo)
	if err := p.holdMade(r, up, repo, m, false); err != nil {
		return p.pushError(what, err)
	}
	if err := p.readable(r.Context(), up, repo, m); err != nil {
		return p.pushError(what, err)
	}
	if err := p.hostManifest(r, up, repo, m); err != nil {
		return p.pushError(what, err)
	}
	if err := p.index.Manifest(r.Context(), repo, m.row); err != nil {
		p.log.ErrorContext(r.Context(), "manifest not given to the indexer", "digest", m.row.Digest, "err", err)
	}
	p.awaitIndex(r, repo, m.row.Digest)
	m.headers(w)
	return created(w, r, "manifests", m.row.Digest)
}

// awaitIndex gives the index of d a moment to be listed, in which the request
// keeps nobody busy.
func (p *Proxy) awaitIndex(r *http.Request, repo oci.Repo, d digest.Digest) {
	p.active.Add(-1)
	defer p.active.Add(1)
	p.index.Listed(r.Context(), repo, d)
}

// pushed is a manifest that a client sends.
type pushed struct {
	ref  oci.Reference
	tags []string // that are to mean it
	body []byte
	row  storage.ManifestRow
}

func (m *pushed) subject() *v1.Descriptor { return m.row.Manifest.Subject }

// headers tells what was understood.
func (m *pushed) headers(w http.ResponseWriter) {
	h := w.Header()
	if s := m.subject(); s != nil {
		h.Set("OCI-Subject", s.Digest.String())
	}
	if m.ref.Digest != "" && len(m.tags) > 0 {
		h.Set("OCI-Tag", strings.Join(m.tags, ", "))
	}
	for i := range m.row.Manifest.Layers {
		if l := &m.row.Manifest.Layers[i]; nonDistributable(l.MediaType) {
			h.Add("Warning", fmt.Sprintf(`299 - "layer %s is non-distributable: whoever pulls this image needs it from elsewhere"`, l.Digest))
			break
		}
	}
}

// readManifest reads the request and compares it with its digest.
func (p *Proxy) readManifest(r *http.Request) (*pushed, error) {
	ref, err := oci.ParseReference(mux.Vars(r)["reference"])
	if err != nil {
		return nil, err
	}
	m := &pushed{ref: ref}
	if m.tags, err = tagsOf(r, ref); err != nil {
		return nil, err
	}
	tooLarge := &oci.Error{Code: errcode.ErrorCodeSizeInvalid, Status: http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("manifests of more than %d bytes are not accepted", oci.MaxManifestBytes)}
	if r.ContentLength > oci.MaxManifestBytes {
		return nil, tooLarge
	}
	var buf bytes.Buffer
	buf.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err = buf.ReadFrom(io.LimitReader(r.Body, oci.MaxManifestBytes+1))
	if buf.Len() > oci.MaxManifestBytes {
		return nil, tooLarge
	}
	if err != nil {
		return nil, &oci.Error{Code: errcode.ErrorCodeManifestInvalid, Message: "the body of the request ended early", Err: clientError{err}}
	}
	m.body = buf.Bytes()
	d := ref.Digest
	if d == "" {
		d = digest.FromBytes(m.body)
	} else if got := d.Algorithm().FromBytes(m.body); got != d {
		return nil, oci.NewError(errcode.ErrorCodeDigestInvalid, "the manifest that came is %s, not %s", got, d)
	}
	parsed, err := oci.ParseManifest(m.body, r.Header.Get("Content-Type"))
	if err != nil {
		return nil, &oci.Error{Code: errcode.ErrorCodeManifestInvalid, Message: err.Error()}
	}
	if !parsed.IsIndex() && parsed.Config == nil {
		return nil, oci.NewError(errcode.ErrorCodeManifestInvalid, "%v: an image manifest has a config; an artifact's is {}", oci.ErrManifest)
	}
	m.row = storage.ManifestRow{Digest: d, Size: int64(len(m.body)), Manifest: *parsed}
	return m, nil
}

// tagsOf gives the tags that a request sets: its reference, or those of its query.
func tagsOf(r *http.Request, ref oci.Reference) ([]string, error) {
	if ref.Tag != "" {
		return []string{ref.Tag}, nil
	}
	tags := r.URL.Query()["tag"]
	if len(tags) > maxTagParams {
		return nil, &oci.Error{Code: errcode.ErrorCodeTagInvalid, Status: http.StatusRequestURITooLong,
			Message: fmt.Sprintf("%d tags at once; at most %d are accepted", len(tags), maxTagParams)}
	}
	for _, tag := range tags {
		if t, err := oci.ParseReference(tag); err != nil || t.Tag == "" {
			return nil, oci.NewError(errcode.ErrorCodeTagInvalid, "invalid tag %.130q", tag)
		}
	}
	return tags, nil
}

func nonDistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		mediaType == oci.MediaTypeDockerForeign || mediaType == oci.MediaTypeDockerForeignGzip
}

// part is something that a manifest names and that has to be here.
type part struct {
	*v1.Descriptor
	manifest bool
}

func (m *pushed) parts() []part {
	var ps []part
	if c := m.row.Manifest.Config; c != nil {
		ps = append(ps, part{c, false})
	}
	for i := range m.row.Manifest.Layers {
		if l := &m.row.Manifest.Layers[i]; !nonDistributable(l.MediaType) {
			ps = append(ps, part{l, false})
		}
	}
	for i := range m.row.Manifest.Manifests {
		ps = append(ps, part{&m.row.Manifest.Manifests[i], true})
	}
	return ps
}

// readable opens everything that m names: a row alone does not say that the
// bytes are there still.
func (p *Proxy) readable(ctx context.Context, up *Upstream, repo oci.Repo, m *pushed) error {
	if err := p.store.View(ctx, func(tx storage.Tx) error { return complete(tx, up, repo, m) }); err != nil {
		return err
	}
	for _, x := range m.parts() {
		b, err := p.store.Open(ctx, x.Digest)
		if errors.Is(err, storage.ErrNotFound) {
			if up.Hosting.Sparse {
				continue
			}
			return lacks(repo, x.Digest)
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", x.Digest, err)
		}
		if err := b.Close(); err != nil {
			return fmt.Errorf("close %s: %w", x.Digest, err)
		}
	}
	return nil
}

// complete compares everything that m names with what repo has.
func complete(tx storage.Tx, up *Upstream, repo oci.Repo, m *pushed) error {
	for _, x := range m.parts() {
		has, err := tx.HasRight(repo, x.Digest)
		if err != nil {
			return err
		}
		if !has {
			if up.Hosting.Sparse {
				continue
			}
			return lacks(repo, x.Digest)
		}
		if err := x.fits(tx, repo); err != nil {
			return err
		}
	}
	return nil
}

// fits compares what a descriptor says with what is here.
func (x part) fits(tx storage.Tx, repo oci.Repo) error {
	blob, err := tx.Blob(x.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return lacks(repo, x.Digest)
	}
	if err != nil {
		return err
	}
	if blob.Size != x.Size {
		return oci.NewError(errcode.ErrorCodeManifestInvalid, "%v: it says that %s has %d bytes, it has %d", oci.ErrManifest, x.Digest, x.Size, blob.Size)
	}
	if !x.manifest {
		return nil
	}
	content, err := tx.Content(repo, x.Digest)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !content.Manifest { // the bytes alone may be a part of it
		return lacks(repo, x.Digest)
	}
	if err != nil {
		return err
	}
	row, err := tx.Manifest(x.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return lacks(repo, x.Digest)
	}
	if err == nil && x.MediaType != "" && x.MediaType != row.Manifest.MediaType {
		err = oci.NewError(errcode.ErrorCodeManifestInvalid, "%v: it says that %s is %s, it is %s", oci.ErrManifest, x.Digest, x.MediaType, row.Manifest.MediaType)
	}
	return err
}

func lacks(repo oci.Repo, d digest.Digest) error {
	return &oci.Error{Code: errcode.ErrorCodeManifestBlobUnknown, Detail: map[string]string{"digest": d.String()},
		Message: fmt.Sprintf("the manifest names %s, which %s does not have: push it first", d, repo)}
}

// hostManifest stores bytes and rows, all in one transaction that looks again at
// what it relies on.
func (p *Proxy) hostManifest(r *http.Request, up *Upstream, repo oci.Repo, m *pushed) error {
	d, now := m.row.Digest, p.now().UTC()
	blob := storage.BlobRow{Digest: d, Size: m.row.Size, Kind: storage.KindManifest}
	return p.store.Put(r.Context(), blob, m.body, func(tx storage.Tx) error {
		if err := complete(tx, up, repo, m); err != nil {
			return err
		}
		if err := tx.PutManifest(m.row); err != nil {
			return err
		}
		row := storage.ContentRow{Repo: repo, Digest: d, Size: m.row.Size, Manifest: true, Pushed: now}
		if err := p.holdContent(tx, up, row); err != nil {
			return err
		}
		if err := putReferrer(tx, repo, m); err != nil {
			return err
		}
		if err := p.reclaim(tx, up, repo, d); err != nil {
			return err
		}
		for _, tag := range m.tags {
			if err := mayMove(tx, up, repo, tag, d); err != nil {
				return err
			}
			if err := tx.PutTag(storage.TagRow{Repo: repo, Tag: tag, Digest: d, Checked: now}); err != nil {
				return err
			}
		}
		return p.tellPushed(tx, r, repo, m)
	})
}

// putReferrer lists a manifest that has a subject, which may come later or never.
func putReferrer(tx storage.Tx, repo oci.Repo, m *pushed) error {
	s := m.subject()
	if s == nil {
		return nil
	}
	return tx.PutReferrer(storage.ReferrerRow{Subject: s.Digest, Repo: repo, Descriptor: v1.Descriptor{
		MediaType: m.row.Manifest.MediaType, Digest: m.row.Digest, Size: m.row.Size,
		ArtifactType: m.row.Manifest.ArtifactType, Annotations: m.row.Manifest.Annotations,
	}})
}

// mayMove refuses that an immutable tag means something else; to "" for that it
// goes.
func mayMove(tx storage.Tx, up *Upstream, repo oci.Repo, tag string, to digest.Digest) error {
	if !up.Hosting.immutable(repo, tag) {
		return nil
	}
	old, err := tx.Tag(repo, tag)
	if errors.Is(err, storage.ErrNotFound) || err == nil && old.Digest == to {
		return nil
	}
	if err != nil {
		return err
	}
	if to == "" {
		return oci.NewError(errcode.ErrorCodeDenied, "tag %s of %s is immutable and means %s: it is not deleted, nor is what it means", tag, repo, old.Digest)
	}
	return oci.NewError(errcode.ErrorCodeDenied, "tag %s of %s is immutable and means %s: push under another tag", tag, repo, old.Digest)
}
