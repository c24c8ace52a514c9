package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Publisher puts what was made elsewhere into an upstream. The upstream itself is
// asked, in its own credentials' name, and never a mirror.
type Publisher struct{ c *Client }

// Publisher gives c's.
func (c *Client) Publisher() Publisher {
	own := *c
	own.ends = c.ends[len(c.ends)-1:]
	return Publisher{&own}
}

// Manifest tells where ref leads. Its errors are HeadManifest's.
func (p Publisher) Manifest(ctx context.Context, repo string, ref oci.Reference) (v1.Descriptor, error) {
	return p.c.HeadManifest(ctx, repo, ref)
}

// Read reads a manifest. Its errors are Client.Manifest's.
func (p Publisher) Read(ctx context.Context, repo string, d digest.Digest) ([]byte, error) {
	m, err := p.c.Manifest(ctx, repo, oci.Reference{Digest: d})
	if err != nil {
		return nil, err
	}
	return m.Body, nil
}

// Referrers are Client.Referrers'.
func (p Publisher) Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]v1.Descriptor, error) {
	return p.c.Referrers(ctx, repo, d, artifactType)
}

// PushBlob sends a blob unless repo has it. open gives its bytes from the first,
// as often as it is called.
func (p Publisher) PushBlob(ctx context.Context, repo string, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	switch _, err := p.c.HeadBlob(ctx, repo, d.Digest); {
	case err == nil:
		return nil
	case !IsNotFound(err):
		return err
	}
	return p.c.PushBlob(ctx, repo, open, func() digest.Digest { return d.Digest })
}

// PushManifest sends a manifest under ref.
func (p Publisher) PushManifest(ctx context.Context, repo string, ref oci.Reference, mediaType string, body []byte) error {
	_, err := p.c.PushManifest(ctx, repo, ref, mediaType, body)
	return err
}

// Referrer is a manifest that refers to another one.
type Referrer struct {
	Subject    digest.Digest
	Descriptor v1.Descriptor // as a list of referrers has it
	Body       []byte
	Replaces   []digest.Digest // of ours, that are to be listed no more
}

// PushReferrer sends a manifest that names a subject, and sees to it that it is
// listed: by the referrers API, or, where the registry has none, under the
// fallback tag (distribution specification, "Pushing Manifests with Subject").
// What else is listed there stays.
func (p Publisher) PushReferrer(ctx context.Context, repo string, r Referrer) (fallback bool, err error) {
	d := r.Descriptor.Digest
	subject, err := p.c.PushManifest(ctx, repo, oci.Reference{Digest: d}, r.Descriptor.MediaType, r.Body)
	if err != nil || subject == r.Subject.String() {
		return false, err
	}
	if listed, err := p.listed(ctx, repo, r.Subject, d); err != nil || listed {
		return false, err
	}
	return true, p.changeTag(ctx, repo, r.Subject, func(list []json.RawMessage) ([]json.RawMessage, error) {
		return withReferrer(list, r)
	})
}

// listed reports whether the referrers API, if there is one, lists d.
func (p Publisher) listed(ctx context.Context, repo string, subject, d digest.Digest) (bool, error) {
	body, a, err := p.c.read(ctx, &request{
		op: opReferrers, method: http.MethodGet, repo: repo, path: "referrers/" + subject.String(),
		header: http.Header{"Accept": {v1.MediaTypeImageIndex}},
	}, oci.MaxManifestBytes)
	if noReferrersAPI(err) || err == nil && mediaType(a.Response) != v1.MediaTypeImageIndex {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list referrers of %s in %s: %w", subject, repo, err)
	}
	return bytes.Contains(body, []byte(d)), nil
}

// withReferrer puts r into a list of referrers, once, and takes out what it
// replaces.
func withReferrer(list []json.RawMessage, r Referrer) ([]json.RawMessage, error) {
	own, err := json.Marshal(r.Descriptor)
	if err != nil {
		return nil, err
	}
	out := make([]json.RawMessage, 0, len(list)+1)
	there := false
	for _, raw := range list {
		var x struct {
			Digest digest.Digest `json:"digest"`
		}
		if err := json.Unmarshal(raw, &x); err != nil {
			return nil, err
		}
		if slices.Contains(r.Replaces, x.Digest) && x.Digest != r.Descriptor.Digest {
			continue
		}
		there = there || x.Digest == r.Descriptor.Digest
		out = append(out, raw)
	}
	if !there {
		out = append(out, own)
	}
	return out, nil
}

// tagTries is how often a list under a fallback tag is written that others write
// at the same time.
const tagTries = 8

// errContended: others write the list at the same time.
var errContended = errors.New("the list of referrers is changed by others all the time")

// changeTag changes the list under a subject's fallback tag. Registries have no
// way to write only what nobody else has written meanwhile: so it is looked right
// before, and again behind, and done once more when somebody came in between.
func (p Publisher) changeTag(ctx context.Context, repo string, subject digest.Digest, change func([]json.RawMessage) ([]json.RawMessage, error)) error {
	ref := oci.Reference{Tag: ReferrersTag(subject)}
	retry := &retrier{c: p.c, op: opPushManifest, repo: repo}
	for range tagTries {
		was, list, err := p.tagged(ctx, repo, ref)
		if err != nil {
			return err
		}
		changed, err := change(list.manifests)
		if err != nil {
			return fmt.Errorf("change the list of referrers at %s:%s: %w", repo, ref, err)
		}
		if slices.EqualFunc(changed, list.manifests, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			return nil
		}
		body, err := list.with(changed)
		if err != nil {
			return fmt.Errorf("change the list of referrers at %s:%s: %w", repo, ref, err)
		}
		now, err := p.leads(ctx, repo, ref)
		if err != nil {
			return err
		}
		if now == was && len(changed) == 0 && p.dropTag(ctx, repo, ref, was) {
			return nil
		}
		if now == was {
			if err := p.PushManifest(ctx, repo, ref, v1.MediaTypeImageIndex, body); err != nil {
				return err
			}
			if now, err = p.leads(ctx, repo, ref); err != nil {
				return err
			}
			if now == digest.FromBytes(body) {
				return nil
			}
		}
		if err := sleep(ctx, retry.pause()); err != nil {
			return p.c.left(err, opPushManifest)
		}
	}
	return fmt.Errorf("list a referrer at %s:%s: %w", repo, ref, errContended)
}

// dropTag deletes a list with nothing left in it, and so its tag, and reports whether
// that is gone: few registries let one, and then an empty list stays. It is
// deleted by its digest: what somebody else has written meanwhile is another.
func (p Publisher) dropTag(ctx context.Context, repo string, ref oci.Reference, list digest.Digest) bool {
	if err := p.deleteManifest(ctx, repo, list); err != nil {
		return false
	}
	now, err := p.leads(ctx, repo, ref)
	return err == nil && now == ""
}

// leads gives the digest that a tag leads to; "" where there is none.
func (p Publisher) leads(ctx context.Context, repo string, ref oci.Reference) (digest.Digest, error) {
	d, err := p.c.HeadManifest(ctx, repo, ref)
	if IsNotFound(err) {
		return "", nil
	}
	return d.Digest, err
}

// tagList is an image index of which only the list is understood.
type tagList struct {
	rest      map[string]json.RawMessage // nil: there is none yet
	manifests []json.RawMessage
}

// tagged reads the list under a tag; without one it is empty.
func (p Publisher) tagged(ctx context.Context, repo string, ref oci.Reference) (digest.Digest, tagList, error) {
	var list tagList
	m, err := p.c.Manifest(ctx, repo, ref)
	if IsNotFound(err) {
		return "", list, nil
	}
	if err != nil {
		return "", list, err
	}
	wrong := &ProtocolError{Upstream: p.c.opt.Name, Op: string(opManifest), Reason: "what is under the tag " + ref.Tag + " is no list of referrers"}
	if parsed, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType); err != nil || parsed.MediaType != v1.MediaTypeImageIndex {
		return "", list, wrong
	}
	err = json.Unmarshal(m.Body, &list.rest)
	if err == nil {
		err = json.Unmarshal(list.rest["manifests"], &list.manifests)
	}
	if err != nil {
		return "", list, wrong
	}
	return m.Descriptor.Digest, list, nil
}

// with gives the index with other entries; what else is in it stays.
func (l tagList) with(manifests []json.RawMessage) ([]byte, error) {
	rest := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + v1.MediaTypeImageIndex + `"`),
	}
	for k, v := range l.rest {
		rest[k] = v
	}
	var err error
	if rest["manifests"], err = json.Marshal(manifests); err != nil {
		return nil, err
	}
	body, err := json.Marshal(rest)
	if err == nil && len(body) > oci.MaxManifestBytes {
		err = fmt.Errorf("it would have %d bytes, at most %d are accepted", len(body), oci.MaxManifestBytes)
	}
	return body, err
}

// Unlist takes a manifest that was pushed from here, and is replaced, out of the
// list of its subject, and deletes it. One that is not there is success.
func (p Publisher) Unlist(ctx context.Context, repo string, subject, d digest.Digest, fallback bool) error {
	if fallback {
		err := p.changeTag(ctx, repo, subject, func(list []json.RawMessage) ([]json.RawMessage, error) {
			return slices.DeleteFunc(slices.Clone(list), func(raw json.RawMessage) bool {
				var x struct {
					Digest digest.Digest `json:"digest"`
				}
				return json.Unmarshal(raw, &x) == nil && x.Digest == d
			}), nil
		})
		if err != nil {
			return err
		}
	}
	return p.deleteManifest(ctx, repo, d)
}

// deleteManifest deletes one by its digest. One that is not there is success.
func (p Publisher) deleteManifest(ctx context.Context, repo string, d digest.Digest) error {
	q, err := manifestRequest(opDeleteManifest, http.MethodDelete, repo, oci.Reference{Digest: d})
	if err != nil {
		return fmt.Errorf("delete manifest %s of %s: %w", d, repo, err)
	}
	a, err := p.c.do(ctx, q)
	if IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete manifest %s of %s: %w", d, repo, err)
	}
	a.Close()
	return nil
}
