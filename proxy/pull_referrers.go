package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// attached says how a manifest that belongs to an image and is not part of it is
// found: as the referrer of one, or by a tag. Zero is what is part of it.
type attached struct {
	subject digest.Digest
	tag     string
}

// again notes a further way to a manifest that was brought.
func (x *pull) again(d digest.Digest, at attached) {
	for i := range x.got.Manifests {
		if m := &x.got.Manifests[i]; m.Digest == d && m.Tag == "" && (m.Subject != "" || at.subject == "") {
			m.Tag = at.tag
		}
	}
}

// referrerLister is a Registry that can list referrers.
type referrerLister interface {
	Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]v1.Descriptor, error)
}

// referrers brings what the upstream lists for d, and what was pushed here.
func (x *pull) referrers(ctx context.Context, d digest.Digest, depth int) error {
	list, err := x.listed(ctx, d)
	if up, ok := x.up.Registry.(referrerLister); ok && err == nil && !x.o.Here && !x.up.Offline {
		var theirs []v1.Descriptor
		err = patiently(ctx, func() (err error) {
			theirs, err = up.Referrers(ctx, x.repo.Name, d, "")
			return err
		})
		list = append(list, theirs...)
		if len(theirs) > 0 {
			err = x.p.store.Update(ctx, func(tx storage.Tx) error { // known from now on, while it is away, too
				return tx.PutUpstreamReferrers(storage.UpstreamReferrersRow{Repo: x.repo, Subject: d, Referrers: theirs, Checked: x.p.now()})
			})
		}
	}
	if err != nil {
		return fmt.Errorf("referrers of %s: %w", d, err)
	}
	for _, r := range list {
		if strings.HasPrefix(r.ArtifactType, oci.SOCIPrefix) {
			continue
		}
		if err := x.manifest(ctx, r, attached{subject: d}, depth+1); err != nil {
			return fmt.Errorf("referrer of %s: %w", d, err)
		}
	}
	return x.tagged(ctx, d, depth)
}

// tagged brings what is attached to d by a tag that is made of its digest, as
// cosign did before there were referrers, and still does by default.
func (x *pull) tagged(ctx context.Context, d digest.Digest, depth int) error {
	for _, tag := range oci.AttachedTags(d) {
		desc, err := x.tag(ctx, tag)
		if upstream.IsNotFound(err) || errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err == nil {
			err = x.manifest(ctx, desc, attached{tag: tag}, depth+1)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	return nil
}

// tag finds what a tag leads to.
func (x *pull) tag(ctx context.Context, tag string) (v1.Descriptor, error) {
	if x.o.Here || x.up.Registry == nil || x.up.Offline {
		_, desc, err := x.p.knownTag(ctx, x.repo, tag)
		return desc, err
	}
	var got found
	err := patiently(ctx, func() (err error) {
		got, err = x.p.manifestByTag(ctx, x.up, x.repo, tag, true) // most have none: a HEAD is not billed
		return err
	})
	return got.desc, err
}

// listed gives the referrers of d that are known here: pushed ones, and where
// the upstream is not asked, what it last listed.
func (x *pull) listed(ctx context.Context, d digest.Digest) (list []v1.Descriptor, err error) {
	err = x.p.store.View(ctx, func(tx storage.Tx) error {
		list = nil
		err := tx.Referrers(d, func(row storage.ReferrerRow) error {
			if row.Repo == x.repo {
				list = append(list, row.Descriptor)
			}
			return nil
		})
		if err != nil || !x.o.Here && !x.up.Offline {
			return err
		}
		row, err := tx.UpstreamReferrers(x.repo, d)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		list = append(list, row.Referrers...)
		return err
	})
	return list, err
}
