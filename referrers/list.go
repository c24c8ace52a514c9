package referrers

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// listing is what there is to list: the SOCI v1 index, if any, and the rest by
// digest.
type listing struct {
	soci *v1.Descriptor
	rest []v1.Descriptor
}

// list merges ours with the upstream's, of artifactType filter only unless
// that is "".
func (s *Referrers) list(ctx context.Context, repo oci.Repo, subject digest.Digest, filter string) (listing, error) {
	ours, err := s.ours(ctx, subject)
	if err != nil {
		return listing{}, err
	}
	haveSOCI := slices.ContainsFunc(ours, isSOCI)
	var theirs []v1.Descriptor
	if s.upstream != nil && !(haveSOCI && filter == oci.MediaTypeSOCIIndexV1) {
		theirs, err = s.theirs(ctx, repo, subject)
		if err != nil {
			return listing{}, err
		}
	}
	l := merge(ours, theirs, filter)
	s.count(l.soci != nil, haveSOCI)
	return l, nil
}

func (s *Referrers) ours(ctx context.Context, subject digest.Digest) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	err := s.store.View(ctx, func(tx storage.Tx) error {
		out = out[:0]
		return tx.Referrers(subject, func(row storage.ReferrerRow) error {
			out = append(out, row.Descriptor)
			return nil
		})
	})
	return out, err
}

// theirs is what the upstream lists; nothing when it can't be had. The only
// error is that the caller itself is gone.
func (s *Referrers) theirs(ctx context.Context, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error) {
	theirs, asked, err := s.upstream.ask(ctx, repo, subject)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	switch {
	case err == nil && asked:
		s.m.upstream.WithLabelValues(resultOK).Inc()
	case errors.Is(err, context.DeadlineExceeded) && asked:
		s.m.upstream.WithLabelValues(resultTimeout).Inc()
	case err != nil && asked:
		s.m.upstream.WithLabelValues(resultError).Inc()
	}
	if err != nil && asked {
		s.log.WarnContext(ctx, "referrers of the upstream left out", "repo", repo.String(), "digest", subject, "err", err)
	}
	return theirs, nil
}

func isSOCI(d v1.Descriptor) bool { return d.ArtifactType == oci.MediaTypeSOCIIndexV1 }

// merge keeps one descriptor a digest, ours before theirs, and of the SOCI v1
// indexes the first. What the upstream sent is not trusted to be well formed.
func merge(ours, theirs []v1.Descriptor, filter string) listing {
	var l listing
	seen := map[digest.Digest]bool{}
	for i, d := range slices.Concat(ours, theirs) {
		if i >= len(ours) && !wellFormed(&d) || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if filter != "" && d.ArtifactType != filter {
			continue
		}
		d = v1.Descriptor{
			MediaType: d.MediaType, Digest: d.Digest, Size: d.Size,
			ArtifactType: d.ArtifactType, Annotations: d.Annotations,
		}
		switch {
		case !isSOCI(d):
			l.rest = append(l.rest, d)
		case l.soci == nil:
			l.soci = &d
		}
	}
	slices.SortFunc(l.rest, func(a, b v1.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return l
}

func wellFormed(d *v1.Descriptor) bool {
	_, err := oci.ParseDigest(d.Digest.String())
	return err == nil && d.Size >= 0 && d.MediaType != ""
}
