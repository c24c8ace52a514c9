package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// What was made here is read in every repository that has what it was made of. So a
// client that copies it there hears that it is there, and sends no more than the
// manifest that names it. By then it has to be there as if the client had sent it.

// madePart is something that a manifest names and that was made here.
type madePart struct {
	part
	row storage.BlobRow
}

// madeParts gives what m names of what was made here, as far as the caller of r may
// read it in repo; in a hosted repository what that does not have itself. nested says
// that m was made here and is read there, too: so is its config, {}.
func (p *Proxy) madeParts(r *http.Request, up *Upstream, repo oci.Repo, m *pushed, nested bool) (list []madePart, err error) {
	err = p.store.View(r.Context(), func(tx storage.Tx) error {
		list = nil
		seen := map[digest.Digest]bool{} // what is named twice is named in one way
		for _, x := range m.parts() {
			if seen[x.Digest] {
				continue
			}
			seen[x.Digest] = true
			row, err := tx.Blob(x.Digest)
			if errors.Is(err, storage.ErrNotFound) || err == nil && !isMade(x, row) {
				continue
			}
			if err != nil {
				return err
			}
			ok, err := p.readsMade(tx, up, repo, row, nested)
			if ok && up.Hosted {
				ok, err = x.isOwed(tx, repo)
			}
			if ok && err == nil {
				err = storage.NotBlocked(tx, x.Digest)
			}
			if err != nil {
				return err
			}
			if ok {
				list = append(list, madePart{x, row})
			}
		}
		return nil
	})
	if len(list) > 0 && !p.sees(r, repo) { // it heard of nothing that is there
		return nil, err
	}
	return list, err
}

// isMade reports whether row is of something that was made here, and of the kind that
// a manifest has as x.
func isMade(x part, row storage.BlobRow) bool {
	if x.manifest {
		return row.Kind == storage.KindIndex && row.Of != ""
	}
	return row.Kind == storage.KindIndex || row.Kind == storage.KindZTOC
}

// readsMade reports whether a caller of repo may read what was made here. Whether {}
// is at an upstream its clients hear from there.
func (p *Proxy) readsMade(tx storage.Tx, up *Upstream, repo oci.Repo, row storage.BlobRow, nested bool) (bool, error) {
	if row.Digest == oci.EmptyDigest && (nested || !up.Hosted) {
		return nested, nil
	}
	return p.has(tx, repo, row.Digest, derivedFrom(row))
}

// isOwed reports whether repo has x for what it was made of alone.
func (x part) isOwed(tx storage.Tx, repo oci.Repo) (bool, error) {
	content, err := tx.Content(repo, x.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	return err == nil && x.manifest && !content.Manifest, err
}

// madeManifest reads a manifest that was made here.
func (p *Proxy) madeManifest(ctx context.Context, x madePart) (*pushed, error) {
	m := &pushed{ref: oci.Reference{Digest: x.Digest}}
	err := p.store.View(ctx, func(tx storage.Tx) (err error) {
		m.row, err = tx.Manifest(x.Digest)
		return err
	})
	if err == nil {
		m.body, err = p.manifestBody(ctx, found{desc: descriptor(m.row)})
	}
	return m, err
}

// holdMade has the hosted repo have itself what m names of what was made here.
func (p *Proxy) holdMade(r *http.Request, up *Upstream, repo oci.Repo, m *pushed, nested bool) error {
	list, err := p.madeParts(r, up, repo, m, nested)
	for _, x := range list {
		switch {
		case err != nil:
		case x.manifest:
			err = p.holdMadeManifest(r, up, repo, x)
		default:
			err = p.holdMadeBlob(r, up, repo, x.row, nested)
		}
	}
	if errors.Is(err, storage.ErrNotFound) { // it went meanwhile: who looks for what is missing says so
		return nil
	}
	return err
}

func (p *Proxy) holdMadeBlob(r *http.Request, up *Upstream, repo oci.Repo, blob storage.BlobRow, nested bool) error {
	row := storage.ContentRow{Repo: repo, Digest: blob.Digest, Size: blob.Size, Pushed: p.now().UTC()}
	return p.store.Host(r.Context(), blob.Digest, func(tx storage.Tx) error {
		if ok, err := p.readsMade(tx, up, repo, blob, nested); err != nil || !ok { // what it was made of may have gone
			return errors.Join(err, storage.ErrNotFound)
		}
		if err := p.holdContent(tx, up, row); err != nil {
			return err
		}
		return p.tell(tx, r, oci.Event{Kind: oci.EventPush, Repo: repo, Target: blobTarget(blob.Digest, blob.Size)})
	})
}

func (p *Proxy) holdMadeManifest(r *http.Request, up *Upstream, repo oci.Repo, x madePart) error {
	m, err := p.madeManifest(r.Context(), x)
	if err == nil {
		err = p.holdMade(r, up, repo, m, true)
	}
	if err == nil {
		err = p.readable(r.Context(), up, repo, m)
	}
	if err == nil {
		err = p.hostManifest(r, up, repo, m)
	}
	return err
}

// sendMade has the upstream have what m names of what was made here, out of the
// store. What it has already is not sent.
func (p *Proxy) sendMade(r *http.Request, up *Upstream, repo oci.Repo, m *pushed, nested bool) error {
	list, err := p.madeParts(r, up, repo, m, nested)
	for _, x := range list {
		switch {
		case err != nil:
		case x.manifest:
			err = p.sendMadeManifest(r, up, repo, x)
		default:
			err = p.sendMadeBlob(r.Context(), up, repo, x.Digest)
		}
	}
	if errors.Is(err, storage.ErrNotFound) { // it went meanwhile: the upstream says that it is missing
		return nil
	}
	return err
}

func (p *Proxy) sendMadeBlob(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest) error {
	if _, err := up.Registry.HeadBlob(ctx, repo.Name, d); !upstream.IsNotFound(err) {
		return err
	}
	open := func() (io.ReadCloser, error) {
		b, err := p.store.Open(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", d, err)
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(b, 0, b.Size()), b}, nil
	}
	return up.Registry.(Pusher).PushBlob(ctx, repo.Name, open, func() digest.Digest { return d })
}

func (p *Proxy) sendMadeManifest(r *http.Request, up *Upstream, repo oci.Repo, x madePart) error {
	ref := oci.Reference{Digest: x.Digest}
	if _, err := up.Registry.HeadManifest(r.Context(), repo.Name, ref); !upstream.IsNotFound(err) {
		return err
	}
	m, err := p.madeManifest(r.Context(), x)
	if err == nil {
		err = p.sendMade(r, up, repo, m, true)
	}
	if err == nil {
		_, err = up.Registry.(Pusher).PushManifest(r.Context(), repo.Name, ref, m.row.Manifest.MediaType, m.body)
	}
	return err
}
