package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/storage"
)

// publisher puts indexes into upstreams, with the credentials configured for them.
type publisher struct{ *live }

// Takes is false for namespaces of ours, and for upstreams that are never asked, or only
// in their callers' name: see Config.whyNoPush.
func (p publisher) Takes(repo oci.Repo) bool {
	u := p.now.Load().upstream(repo.Upstream)
	return u != nil && !u.Hosted && !u.Offline && u.Identity.As != proxy.AsCallers
}

func (p publisher) to(repo oci.Repo) (upstream.Publisher, error) {
	c := p.client(repo.Upstream)
	if c == nil {
		return upstream.Publisher{}, fmt.Errorf("%s: %w", repo.Upstream, errNoUpstream)
	}
	return c.Publisher(), nil
}

func (p publisher) Manifest(ctx context.Context, repo oci.Repo, ref oci.Reference) (digest.Digest, error) {
	up, err := p.to(repo)
	if err != nil {
		return "", err
	}
	d, err := up.Manifest(ctx, repo.Name, ref)
	if upstream.IsNotFound(err) {
		err = fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	return d.Digest, err
}

func (p publisher) Read(ctx context.Context, repo oci.Repo, d digest.Digest) ([]byte, error) {
	up, err := p.to(repo)
	if err != nil {
		return nil, err
	}
	body, err := up.Read(ctx, repo.Name, d)
	if upstream.IsNotFound(err) {
		err = fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	return body, err
}

func (p publisher) Referrers(ctx context.Context, repo oci.Repo, subject digest.Digest, artifactType string) ([]v1.Descriptor, error) {
	up, err := p.to(repo)
	if err != nil {
		return nil, err
	}
	return up.Referrers(ctx, repo.Name, subject, artifactType)
}

func (p publisher) PushBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	up, err := p.to(repo)
	if err != nil {
		return err
	}
	return refused(up.PushBlob(ctx, repo.Name, d, open))
}

func (p publisher) PushManifest(ctx context.Context, repo oci.Repo, ref oci.Reference, mediaType string, body []byte) error {
	up, err := p.to(repo)
	if err != nil {
		return err
	}
	return refused(up.PushManifest(ctx, repo.Name, ref, mediaType, body))
}

func (p publisher) PushReferrer(ctx context.Context, repo oci.Repo, subject digest.Digest, d v1.Descriptor, body []byte, replaces []digest.Digest) (bool, error) {
	up, err := p.to(repo)
	if err != nil {
		return false, err
	}
	fallback, err := up.PushReferrer(ctx, repo.Name, upstream.Referrer{Subject: subject, Descriptor: d, Body: body, Replaces: replaces})
	return fallback, refused(err)
}

func (p publisher) Unlist(ctx context.Context, repo oci.Repo, subject, d digest.Digest, fallback bool) error {
	up, err := p.to(repo)
	if err != nil {
		return err
	}
	err = up.Unlist(ctx, repo.Name, subject, d, fallback)
	if upstream.IsDenied(err) { // few may delete, and it is not worth trying again
		return fmt.Errorf("%w: %w", indexer.ErrRefused, err)
	}
	return refused(err)
}

// refused tells what an upstream will not take from what it may take later. That
// credentials do not suffice is mended by whoever looks after them.
func refused(err error) error {
	s, ok := errors.AsType[*upstream.StatusError](err)
	if !ok || upstream.IsDenied(err) || upstream.IsUnavailable(err) || s.Status < 400 || s.Status >= 500 && s.Status != http.StatusNotImplemented {
		return err
	}
	return fmt.Errorf("%w: %w", indexer.ErrRefused, err)
}
