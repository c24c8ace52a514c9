package referrers

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// query is what is to be listed.
type query struct {
	repo    oci.Repo
	subject digest.Digest
	filter  string // artifactType, or ""
	last    string // the cursor; "" for the first page
	n       int    // entries on a page at most
	theirs  bool   // repo does not have subject: nothing that was made here of it
}

// listing is what there is to list behind the cursor: the SOCI v1 index, on the
// first page, and the rest by digest, as far as a page may have room for it.
type listing struct {
	soci *v1.Descriptor
	rest []v1.Descriptor
}

// gathered is a listing, and what is to be said of it.
type gathered struct {
	listing
	ours    bool  // the SOCI index was made here
	none    bool  // what was made here is not for this repository
	trouble error // why the upstream could not be asked, where it had to be
	known   bool  // then its part is as it last was; else it is missing
}

// list merges ours with the upstream's, or with what a client filed under the
// fallback tag of a hosted repository.
func (s *Referrers) list(ctx context.Context, q query) (g gathered, err error) {
	hosted := s.hosted(q.repo.Upstream)
	var more theirs
	err = s.store.View(ctx, func(tx storage.Tx) error {
		var filed []v1.Descriptor
		g, more = gathered{}, theirs{}
		entitled := !q.theirs
		if hosted {
			var err error
			if entitled, err = tx.HasRight(q.repo, q.subject); err != nil {
				return err
			}
			if filed, err = tagged(tx, q.repo, q.subject); err != nil {
				return err
			}
			filed = clean(filed)
			more = sorted(filed)
		}
		if s.made != nil {
			offered, err := s.made.Offers(tx, q.repo, q.subject)
			if err != nil {
				return err
			}
			g.none = !offered
		}
		return g.here(tx, q, entitled, filed)
	})
	if err != nil {
		return g, err
	}
	if !hosted && s.upstream != nil && (!g.ours || q.filter != oci.MediaTypeSOCIIndexV1) {
		if more, g.trouble, err = s.theirs(ctx, q.repo, q.subject); err != nil {
			return g, err
		}
		g.known = more.known
		if more.soci, err = s.notOurs(ctx, &g, q, more.soci); err != nil {
			return g, err
		}
	}
	g.add(more, q)
	if q.last != "" {
		g.soci = nil
	}
	return g, nil
}

// notOurs leaves out of what an upstream lists the index that was pushed there
// from here, where it is not for this repository any more.
func (s *Referrers) notOurs(ctx context.Context, g *gathered, q query, soci *v1.Descriptor) (*v1.Descriptor, error) {
	if soci == nil || !g.none {
		return soci, nil
	}
	mine := false
	err := s.store.View(ctx, func(tx storage.Tx) error {
		row, err := tx.Blob(soci.Digest)
		mine = err == nil && row.Kind == storage.KindIndex && row.Of == q.subject
		if err != nil && !errors.Is(err, storage.ErrNotFound) || mine {
			return err
		}
		pushed, err := tx.Published(q.repo, q.subject, soci.Digest)
		mine = err == nil && pushed.Instead == ""
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if mine {
		return nil, err
	}
	return soci, err
}

var errEnough = errors.New("a page's worth was found")

// here gathers the rows: of what was made here, if the caller is entitled to
// it, and of what was pushed to the repository. It goes no further than a page
// may have room for, but on the first page on to the SOCI index that was made
// here, which is listed first wherever it stands. Without that one it is the
// newest of those that were pushed, filed under the fallback tag or not.
func (g *gathered) here(tx storage.Tx, q query, entitled bool, filed []v1.Descriptor) error {
	room := maxPageBytes
	pushed := newest{tx: tx, repo: q.repo}
	visit := func(row storage.ReferrerRow) error {
		made := row.Repo == (oci.Repo{})
		full := room < 0 || len(g.rest) > q.n
		switch {
		case full && (g.ours || q.last != ""):
			return errEnough
		case made && !entitled || !made && row.Repo != q.repo, made && g.none && row.Descriptor.ArtifactType == oci.MediaTypeSOCIIndexV1:
			return nil
		}
		d := bare(&row.Descriptor)
		if isSOCI(d) {
			switch {
			case made && !g.ours:
				g.soci, g.ours = &d, true
			case !made && !g.ours && q.last == "":
				return pushed.add(d)
			}
			return nil
		}
		if full || !q.wants(d) || len(g.rest) > 0 && g.rest[len(g.rest)-1].Digest == d.Digest {
			return nil
		}
		g.rest = append(g.rest, d)
		room -= minEncoded(d)
		return nil
	}
	var err error
	if last, invalid := oci.ParseDigest(q.last); invalid == nil {
		err = tx.ReferrersAfter(q.subject, last, visit)
	} else {
		err = tx.Referrers(q.subject, visit)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	for i := range filed {
		if err == nil && isSOCI(filed[i]) && !g.ours && q.last == "" {
			err = pushed.add(filed[i])
		}
	}
	if g.soci == nil {
		g.soci = pushed.index
	}
	if g.soci != nil && q.filter != "" && q.filter != oci.MediaTypeSOCIIndexV1 {
		g.soci = nil
	}
	return err
}

// minEncoded is less than d takes on a page, so that what is gathered fills it.
func minEncoded(d v1.Descriptor) int {
	return len(d.MediaType) + len(d.Digest) + len(d.ArtifactType) + 32
}

// wants reports whether d is to be on this page or a later one.
func (q query) wants(d v1.Descriptor) bool {
	return d.Digest.String() > q.last && (q.filter == "" || d.ArtifactType == q.filter)
}

// add merges in what others list.
func (g *gathered) add(more theirs, q query) {
	if g.soci == nil && more.soci != nil && (q.filter == "" || q.filter == oci.MediaTypeSOCIIndexV1) {
		g.soci = more.soci
	}
	out := make([]v1.Descriptor, 0, len(g.rest)+len(more.rest))
	ours := g.rest
	for _, d := range more.rest {
		if !q.wants(d) {
			continue
		}
		for len(ours) > 0 && ours[0].Digest.String() < d.Digest.String() {
			out, ours = append(out, ours[0]), ours[1:]
		}
		if len(ours) > 0 && ours[0].Digest == d.Digest || g.soci != nil && d.Digest == g.soci.Digest {
			continue
		}
		out = append(out, d)
	}
	g.rest = append(out, ours...)
}

// theirs is what the upstream lists, as it last did, or nothing, where it can't be
// asked; trouble says why then. The only error is that the caller itself is gone.
func (s *Referrers) theirs(ctx context.Context, repo oci.Repo, subject digest.Digest) (ts theirs, trouble, err error) {
	ts, asked, err := s.upstream.ask(ctx, repo, subject)
	if ctx.Err() != nil {
		return ts, nil, context.Cause(ctx)
	}
	var notKept *keepError
	if errors.As(err, &notKept) {
		s.log.ErrorContext(ctx, "the upstream's referrers are not kept", "repo", repo.String(), "digest", subject, "err", err)
		err = nil
	}
	switch {
	case !asked:
	case err == nil:
		s.m.upstream.WithLabelValues(resultOK).Inc()
	case errors.Is(err, context.DeadlineExceeded):
		s.m.upstream.WithLabelValues(resultTimeout).Inc()
	default:
		s.m.upstream.WithLabelValues(resultError).Inc()
	}
	if err == nil {
		return ts, nil, nil
	}
	if asked {
		log := s.log.With("repo", repo.String(), "digest", subject, "err", err)
		if ts.known {
			log.WarnContext(ctx, "referrers of the upstream listed as they last were")
		} else {
			log.WarnContext(ctx, "the upstream did not say what refers to an image")
		}
	}
	if ts.known {
		s.m.stale.Inc()
	}
	return ts, err, nil
}

// tagged lists what a client that knows the tag schema alone has filed under
// the fallback tag.
func tagged(tx storage.Tx, repo oci.Repo, subject digest.Digest) ([]v1.Descriptor, error) {
	tag, err := tx.Tag(repo, upstream.ReferrersTag(subject))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	row, err := tx.Manifest(tag.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !row.Manifest.IsIndex() {
		return nil, err
	}
	list := slices.Clone(row.Manifest.Manifests)
	for i := range list {
		if list[i].ArtifactType != "" {
			continue
		}
		// Clients filter by it, and not all of them file it.
		m, err := tx.Manifest(list[i].Digest)
		if err == nil {
			list[i].ArtifactType = m.Manifest.ArtifactType
		} else if !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
	}
	return list, nil
}

func isSOCI(d v1.Descriptor) bool { return d.ArtifactType == oci.MediaTypeSOCIIndexV1 }

func wellFormed(d *v1.Descriptor) bool {
	_, err := oci.ParseDigest(d.Digest.String())
	return err == nil && d.Size >= 0 && d.MediaType != ""
}
