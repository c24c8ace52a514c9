package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// maxReferrersPages bounds one listing, each page of which may have
// oci.MaxManifestBytes.
const maxReferrersPages = 32

// Referrers lists what refers to d in repo (distribution specification,
// "Listing Referrers"), of artifactType only unless that is "". Where the
// upstream has no referrers API it is the list under the fallback tag
// ("Referrers Tag Schema"). None is an empty list.
func (c *Client) Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]v1.Descriptor, error) {
	if err := oci.CheckName(repo); err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", d, err)
	}
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, fmt.Errorf("list referrers in %s: %w", repo, err)
	}
	list, err := c.referrers(ctx, repo, d, artifactType)
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s in %s: %w", d, repo, err)
	}
	var found []v1.Descriptor
	for _, r := range list {
		// The filter is optional for registries.
		if artifactType == "" || r.ArtifactType == artifactType {
			found = append(found, r)
		}
	}
	return found, nil
}

func (c *Client) referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]v1.Descriptor, error) {
	q := &request{
		op: opReferrers, method: http.MethodGet, repo: repo, path: "referrers/" + d.String(),
		header: http.Header{"Accept": {v1.MediaTypeImageIndex}},
	}
	if artifactType != "" {
		q.query = url.Values{"artifactType": {artifactType}}
	}
	var list []v1.Descriptor
	for page := 0; q != nil; page++ {
		if page == maxReferrersPages {
			return nil, &ProtocolError{
				Upstream: c.opt.Name, Op: string(opReferrers), Reason: fmt.Sprintf("more than %d pages", maxReferrersPages),
			}
		}
		body, a, err := c.read(ctx, q, oci.MaxManifestBytes)
		if page == 0 && (noReferrersAPI(err) || (err == nil && mediaType(a.Response) != v1.MediaTypeImageIndex)) {
			return c.taggedReferrers(ctx, repo, d)
		}
		if err != nil {
			return nil, err
		}
		m, err := oci.ParseManifest(body, v1.MediaTypeImageIndex)
		if err != nil {
			return nil, &ProtocolError{Upstream: c.opt.Name, Op: string(opReferrers), Reason: err.Error()}
		}
		list = append(list, m.Manifests...)
		if q, err = c.nextPage(q, a); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// noReferrersAPI reports an answer of a registry that doesn't know the path: a
// 404 by the specification, other refusals in the field.
func noReferrersAPI(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && !e.aboutAuth() && e.Status < 500 && !IsDenied(err) && !retryStatus[e.Status] ||
		ok && e.Status == http.StatusNotImplemented
}

func (c *Client) taggedReferrers(ctx context.Context, repo string, d digest.Digest) ([]v1.Descriptor, error) {
	m, err := c.manifest(ctx, repo, oci.Reference{Tag: ReferrersTag(d)})
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType)
	if err != nil {
		return nil, &ProtocolError{Upstream: c.opt.Name, Op: string(opReferrers), Reason: err.Error()}
	}
	return index.Manifests, nil
}

// ReferrersTag is d in the form of the specification's "Referrers Tag Schema".
func ReferrersTag(d digest.Digest) string {
	alg, hex := d.Algorithm().String(), d.Encoded()
	return alg[:min(len(alg), 32)] + "-" + hex[:min(len(hex), 64)]
}

// nextPage is the request for the page behind a, or nil after the last. It stays
// with who answered, the repository and what q asked for.
func (c *Client) nextPage(q *request, a *answer) (*request, error) {
	link := nextLink(a.Header)
	if link == "" {
		return nil, nil
	}
	wrong := &ProtocolError{Upstream: c.opt.Name, Op: string(q.op), Reason: "the next page is elsewhere"}
	base := a.e.root
	base.Path = "/v2/" + a.e.prefix + q.repo + "/" + q.path
	u, err := base.Parse(link)
	if err != nil || u.Scheme != base.Scheme || hostPort(u) != hostPort(&base) || u.Path != base.Path {
		return nil, wrong
	}
	next := *q
	next.query, next.only = u.Query(), a.e
	return &next, nil
}

// nextLink is the target of the Link header with rel="next" (RFC 8288), or "".
func nextLink(h http.Header) string {
	for _, line := range h["Link"] {
		for line != "" {
			_, rest, ok := strings.Cut(line, "<")
			if !ok {
				break
			}
			target, params, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			if i := strings.IndexByte(params, '<'); i >= 0 {
				params, line = params[:i], params[i:]
			} else {
				line = ""
			}
			for _, p := range strings.FieldsFunc(params, func(r rune) bool { return r == ';' || r == ',' }) {
				k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
				if strings.EqualFold(strings.TrimSpace(k), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"`), "next") {
					return target
				}
			}
		}
	}
	return ""
}
