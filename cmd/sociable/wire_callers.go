package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
)

// callers asks upstreams in the names of those who pull from them.
type callers struct {
	client func(upstream string) *upstream.Client // nil: no such upstream
}

var (
	errNoUpstream = errors.New("no such upstream")
	errReloading  = errors.New("the upstream's configuration is being replaced")
)

func (c callers) Login(ctx context.Context, name string, s access.Session, user, password, repo string) (access.Session, error) {
	client := c.client(name)
	if client == nil {
		return nil, errNoUpstream
	}
	k := caller(s)
	if k == nil || !k.Of(client) { // a reload made another one
		k = client.NewCaller()
	}
	return k, callerError(k.Login(ctx, user, password, repo))
}

// Check asks for what is wanted. What the upstream does not have may have been
// made here: then its list of tags tells whether the repository is open.
func (c callers) Check(ctx context.Context, s access.Session, repo oci.Repo, kind, ref string) error {
	client := c.client(repo.Upstream)
	if client == nil {
		return errNoUpstream
	}
	k := caller(s)
	if k != nil && !k.Of(client) {
		return errReloading
	}
	ctx = upstream.As(ctx, k)
	var err error
	switch r, perr := oci.ParseReference(ref); {
	case kind == "" || perr != nil || kind != "manifests" && r.Digest == "":
		_, _, err = client.Tags(ctx, repo.Name, 1, "")
		return callerError(err)
	case kind == "blobs":
		_, err = client.HeadBlob(ctx, repo.Name, r.Digest)
	default:
		_, err = client.HeadManifest(ctx, repo.Name, r)
	}
	if upstream.IsNotFound(err) {
		_, _, err = client.Tags(ctx, repo.Name, 1, "")
	}
	return callerError(err)
}

func caller(s access.Session) *upstream.Caller {
	k, _ := s.(*upstream.Caller)
	return k
}

func callerError(err error) error {
	switch {
	case errors.Is(err, upstream.ErrCredentials):
		return fmt.Errorf("%w: %w", access.ErrRefusedLogin, err)
	case upstream.IsDenied(err):
		return fmt.Errorf("%w: %w", access.ErrRefused, err)
	case upstream.IsNotFound(err):
		return fmt.Errorf("%w: %w", access.ErrUnknown, err)
	case errors.Is(err, upstream.ErrBudget):
		return &access.HeldError{After: upstream.RetryAfter(err), Why: "the requests a minute that this proxy sends it at most are spent (requests_per_minute)", Err: err}
	case upstream.IsThrottled(err):
		return &access.HeldError{After: upstream.RetryAfter(err), Why: "it asks to slow down", Err: err}
	default:
		return err
	}
}

// asCaller gives the registry as it is asked in the name of a request's caller.
func asCaller(acc *access.Access, client *upstream.Client) func(*http.Request, oci.Repo) proxy.Registry {
	return func(r *http.Request, repo oci.Repo) proxy.Registry {
		return &callersRegistry{client, acc.Bind(r, repo)}
	}
}

// callersRegistry is an upstream that is asked in one caller's name. That it
// refuses is told to the caller, who may log in again.
type callersRegistry struct {
	client *upstream.Client
	who    access.Binding
}

func (c *callersRegistry) as(ctx context.Context) context.Context {
	return upstream.As(ctx, caller(c.who.Session))
}

func (c *callersRegistry) told(err error) error {
	if upstream.IsDenied(err) {
		return c.who.Refused(err)
	}
	return err
}

func (c *callersRegistry) Manifest(ctx context.Context, repo string, ref oci.Reference) (*upstream.Manifest, error) {
	m, err := c.client.Manifest(c.as(ctx), repo, ref)
	return m, c.told(err)
}

func (c *callersRegistry) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	d, err := c.client.HeadManifest(c.as(ctx), repo, ref)
	return d, c.told(err)
}

func (c *callersRegistry) HeadBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	n, err := c.client.HeadBlob(c.as(ctx), repo, d)
	return n, c.told(err)
}

func (c *callersRegistry) Blob(ctx context.Context, repo string, d digest.Digest, r oci.Range) (*upstream.Body, error) {
	b, err := c.client.Blob(c.as(ctx), repo, d, r)
	return b, c.told(err)
}

func (c *callersRegistry) Tags(ctx context.Context, repo string, n int, last string) ([]string, bool, error) {
	list, more, err := c.client.Tags(c.as(ctx), repo, n, last)
	return list, more, c.told(err)
}

func (c *callersRegistry) PushBlob(ctx context.Context, repo string, open func() (io.ReadCloser, error), d func() digest.Digest) error {
	return c.told(c.client.PushBlob(c.as(ctx), repo, open, d))
}

func (c *callersRegistry) MountBlob(ctx context.Context, repo, from string, d digest.Digest) (bool, error) {
	ok, err := c.client.MountBlob(c.as(ctx), repo, from, d)
	return ok, c.told(err)
}

func (c *callersRegistry) PushManifest(ctx context.Context, repo string, ref oci.Reference, mediaType string, body []byte) (string, error) {
	subject, err := c.client.PushManifest(c.as(ctx), repo, ref, mediaType, body)
	return subject, c.told(err)
}

func (c *callersRegistry) DeleteManifest(ctx context.Context, repo string, ref oci.Reference) error {
	return c.told(c.client.DeleteManifest(c.as(ctx), repo, ref))
}

var _ proxy.Pusher = (*callersRegistry)(nil)
