package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Manifest is a manifest or index as the upstream serves it.
type Manifest struct {
	Descriptor v1.Descriptor // media type (of Content-Type, "" where it has none), digest, size
	Body       []byte        // what the digest was checked against
}

// Manifest gets a manifest of at most oci.MaxManifestBytes. By digest its bytes
// are verified. By tag they are verified against the digest that the upstream
// says they have, or get their sha256 digest where it says none. Bytes that
// don't match are ErrDigest.
func (c *Client) Manifest(ctx context.Context, repo string, ref oci.Reference) (*Manifest, error) {
	m, err := c.manifest(ctx, repo, ref)
	if err != nil {
		return nil, fmt.Errorf("get manifest %s of %s: %w", ref, repo, err)
	}
	return m, nil
}

func (c *Client) manifest(ctx context.Context, repo string, ref oci.Reference) (*Manifest, error) {
	q, err := manifestRequest(opManifest, http.MethodGet, repo, ref)
	if err != nil {
		return nil, err
	}
	m, from, err := c.readManifest(ctx, q, ref)
	if errors.Is(err, ErrDigest) && len(c.ends) > 1 {
		q.avoid = from
		m, _, err = c.readManifest(ctx, q, ref)
	}
	return m, err
}

// readManifest asks q and checks what comes, from whom.
func (c *Client) readManifest(ctx context.Context, q *request, ref oci.Reference) (*Manifest, *endpoint, error) {
	body, a, err := c.read(ctx, q, oci.MaxManifestBytes)
	if err != nil {
		return nil, nil, err
	}
	want := ref.Digest
	if want == "" {
		want = digestHeader(a.Response)
	}
	d := digest.FromBytes(body)
	if want != "" {
		if d = want.Algorithm().FromBytes(body); d != want {
			return nil, a.e, fmt.Errorf("%w: upstream %s sends %s for %s", ErrDigest, c.opt.Name, d, want)
		}
	}
	return &Manifest{
		Descriptor: v1.Descriptor{MediaType: mediaType(a.Response), Digest: d, Size: int64(len(body))},
		Body:       body,
	}, a.e, nil
}

// HeadManifest gets a manifest's descriptor without its bytes, as long as the
// upstream tells it: one that doesn't answer HEAD, or not with digest and size,
// is asked for the manifest itself.
func (c *Client) HeadManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	d, err := c.headManifest(ctx, repo, ref)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("head manifest %s of %s: %w", ref, repo, err)
	}
	return d, nil
}

func (c *Client) headManifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	q, err := manifestRequest(opHeadManifest, http.MethodHead, repo, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	a, err := c.do(ctx, q)
	if err != nil && !noHead(err) {
		return v1.Descriptor{}, err
	}
	if err == nil {
		a.Close()
		d := v1.Descriptor{MediaType: mediaType(a.Response), Digest: digestHeader(a.Response), Size: a.ContentLength}
		switch {
		case d.Digest == "":
			d.Digest = ref.Digest
		case ref.Digest != "" && d.Digest != ref.Digest && d.Digest.Algorithm() == ref.Digest.Algorithm():
			return v1.Descriptor{}, fmt.Errorf("%w: upstream %s has %s for it", ErrDigest, c.opt.Name, d.Digest)
		case ref.Digest != "":
			d.Digest = ref.Digest
		}
		if d.Digest != "" && d.Size > 0 {
			return d, nil
		}
	}
	m, err := c.manifest(ctx, repo, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return m.Descriptor, nil
}

func manifestRequest(o op, method, repo string, ref oci.Reference) (*request, error) {
	if err := oci.CheckName(repo); err != nil {
		return nil, err
	}
	if _, err := oci.ParseReference(ref.String()); err != nil {
		return nil, err
	}
	return &request{
		op: o, method: method, repo: repo, path: "manifests/" + ref.String(),
		header: http.Header{"Accept": {strings.Join(oci.ManifestTypes, ", ")}},
	}, nil
}

// digestHeader is the digest that an answer says its content has, or "" where
// it says none that we can check.
func digestHeader(resp *http.Response) digest.Digest {
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return ""
	}
	return d
}

func mediaType(resp *http.Response) string {
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}
