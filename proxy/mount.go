package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxMountSources bounds the repositories that are looked at when a client names
// none to mount from, maxMountAsked those of upstreams that have to be asked
// whether the caller may read them.
const (
	maxMountSources = 64
	maxMountAsked   = 2
)

// mount gives repo the blob d of the repository from, or of any where from is
// "", if the caller may read it there ("Mounting a blob from another
// repository"). false: the client has to send it.
func (p *Proxy) mount(r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest, from string) (bool, error) {
	ctx := r.Context()
	sources, row, err := p.mountSources(ctx, d)
	if err != nil || row == nil {
		return false, err
	}
	if from != "" {
		want, ok := p.seesNamed(r, from)
		if !ok {
			return false, nil // the client sends it, then
		}
		sources = []oci.Repo{want}
	}
	asked := 0
	for _, source := range sources {
		if from == "" && p.routes().asksFor(source) {
			if asked++; asked > maxMountAsked {
				continue
			}
		}
		if from == "" && !p.sees(r, source) {
			continue
		}
		err := p.mountFrom(r, up, source, repo, *row)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		return err == nil, err
	}
	return false, nil
}

// mountSources gives the repositories that have d, which is whole here; no row
// where it is not.
func (p *Proxy) mountSources(ctx context.Context, d digest.Digest) (sources []oci.Repo, row *storage.BlobRow, err error) {
	enough := errors.New("enough")
	err = p.store.View(ctx, func(tx storage.Tx) error {
		sources, row = nil, nil
		got, err := tx.Blob(d)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		row = &got
		err = tx.RightRepos(d, func(source oci.Repo) error {
			if sources = append(sources, source); len(sources) == maxMountSources {
				return enough
			}
			return nil
		})
		if errors.Is(err, enough) {
			return nil
		}
		return err
	})
	return sources, row, err
}

// mountFrom gives repo what source has. ErrNotFound.
func (p *Proxy) mountFrom(r *http.Request, up *Upstream, source, repo oci.Repo, blob storage.BlobRow) error {
	row := storage.ContentRow{Repo: repo, Digest: blob.Digest, Size: blob.Size, Pushed: p.now().UTC()}
	has := func(tx storage.Tx) error {
		ok, err := p.has(tx, source, blob.Digest, derivedFrom(blob))
		if err == nil && !ok {
			err = storage.ErrNotFound
		}
		return err
	}
	if blob.Kind != storage.KindHosted { // from now on there may be no other copy
		err := p.store.View(r.Context(), has)
		if err == nil {
			err = p.store.DropWrong(r.Context(), blob.Digest)
		}
		if err != nil {
			return err
		}
	}
	return p.store.Host(r.Context(), blob.Digest, func(tx storage.Tx) error {
		if err := has(tx); err != nil {
			return err
		}
		if err := p.holdContent(tx, up, row); err != nil {
			return err
		}
		return p.tell(tx, r, oci.Event{Kind: oci.EventMount, Repo: repo, FromRepo: source, Target: blobTarget(blob.Digest, blob.Size)})
	})
}
