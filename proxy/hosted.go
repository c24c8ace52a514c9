package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// Hosting is how a hosted namespace is run; the zero value takes everything.
type Hosting struct {
	Quota    int64 // bytes that its repositories may have, each digest counted once; 0: no limit
	ReadOnly bool  // nothing is pushed or deleted
	// Sparse takes a manifest of which not everything that it names is here.
	Sparse bool
	// Immutable reports whether a tag, once pushed, is neither moved nor
	// deleted; nil: none is.
	Immutable func(repository, tag string) bool
}

func (h *Hosting) immutable(repo oci.Repo, tag string) bool {
	return h.Immutable != nil && h.Immutable(repo.Name, tag)
}

// origin is the Registry of a hosted namespace: what is not here is nowhere.
type origin struct{ name string }

func (o origin) nothing(op string) error {
	return &upstream.StatusError{Upstream: o.name, Op: op, Status: http.StatusNotFound, Code: "NAME_UNKNOWN"}
}

func (o origin) Manifest(context.Context, string, oci.Reference) (*upstream.Manifest, error) {
	return nil, o.nothing("manifest")
}

func (o origin) HeadManifest(context.Context, string, oci.Reference) (v1.Descriptor, error) {
	return v1.Descriptor{}, o.nothing("manifest")
}

func (o origin) HeadBlob(context.Context, string, digest.Digest) (int64, error) {
	return 0, o.nothing("blob")
}

func (o origin) Blob(context.Context, string, digest.Digest, oci.Range) (*upstream.Body, error) {
	return nil, o.nothing("blob")
}

func (o origin) Tags(context.Context, string, int, string) ([]string, bool, error) {
	return nil, false, o.nothing("tags")
}

// whole reports a hosted blob of which the bytes are not all here, whatever rows
// say of it: ErrNotFound. No upstream can fill it, only a push can, which a client
// does not begin that hears that the blob is there.
func (p *Proxy) whole(ctx context.Context, d digest.Digest, st stored) error {
	if st.row == nil {
		return storage.ErrNotFound
	}
	b, err := p.store.OpenRow(ctx, *st.row)
	if err != nil {
		return fmt.Errorf("open %s: %w", d, err)
	}
	_ = b.Close() // nothing was read
	return nil
}

// target finds the repository that a request wants to change, and whether it may.
// What nobody may do there is said first: to log in would not help.
func (p *Proxy) target(w http.ResponseWriter, r *http.Request, action oci.Action) (*Upstream, oci.Repo, error) {
	up, repo, err := p.route(r, action)
	if up != nil {
		if why := up.fixed(action); why != "" {
			if err == nil || p.sees(r, repo) { // who may not look there has not looked there
				p.missing.pushed(repo)
			}
			w.Header().Set("Allow", "GET, HEAD") // RFC 9110 §15.5.6
			return nil, oci.Repo{}, oci.NewError(errcode.ErrorCodeUnsupported, "%s of %s is not supported: %s", r.Method, repo, why)
		}
	}
	return up, repo, err
}

// fixed says why nobody may do action in u's repositories; "" where some may.
func (u *Upstream) fixed(action oci.Action) string {
	switch {
	case u.Hosted && u.Hosting.ReadOnly:
		return u.Name + " is read-only (read_only in this registry's configuration)"
	case u.Offline && !u.Hosted && action != oci.ActionPull:
		return "upstream " + u.Name + " is offline by configuration: nothing is pushed or deleted there"
	case u.Hosted, action != oci.ActionPull && u.pusher() != nil:
		return ""
	case action == oci.ActionPush:
		return "nothing is pushed through to upstream " + u.Name + " (push: allow in its configuration would)"
	default:
		return "its images come from upstream " + u.Name + " and are not changed through this proxy"
	}
}

// pusher is where pushes to u go on to; nil: nowhere.
func (u *Upstream) pusher() Pusher {
	if !u.PushThrough || u.Hosted {
		return nil
	}
	to, _ := u.Registry.(Pusher)
	return to
}

// pushError gives a fault of a push the code that tells the client what to do.
func (p *Proxy) pushError(what string, err error) error {
	switch {
	case errors.Is(err, storage.ErrFull):
		return &oci.Error{Code: errcode.ErrorCodeDenied, Err: err, Message: what + ": " + isFull(p.store.Usage())}
	case errors.Is(err, storage.ErrDigest):
		return &oci.Error{Code: errcode.ErrorCodeDigestInvalid, Message: what + ": the bytes that came do not match the digest", Err: err}
	}
	return edge(what, err)
}

// spelled is the path of something in the repository that r named, as r spelled
// it, so that it reaches the same repository.
func spelled(r *http.Request, name string, elem ...string) string {
	path := "/v2/" + name + "/" + strings.Join(elem, "/")
	if ns := r.URL.Query().Get("ns"); ns != "" {
		path += "?" + queryOf("ns", ns)
	}
	return path
}
