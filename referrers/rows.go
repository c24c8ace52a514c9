package referrers

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

// answerRows keeps what upstreams listed. Most images have no referrers, so an
// empty list is kept only where it takes the place of another.
type answerRows struct{ store Store } // nil: nothing is kept

const (
	// never is the age of a list that is not known.
	never = time.Duration(math.MaxInt64)
	// renewEvery is how exact the age of a list is that stays the same: to
	// file it each time it is found unchanged would cost a write a TTL.
	renewEvery = time.Hour
	// maxKept bounds the bytes of a list that is kept.
	maxKept = maxAnswerBytes
)

// get gives the list that was kept for q, and how old it is.
func (r answerRows) get(ctx context.Context, q question) (row storage.UpstreamReferrersRow, age time.Duration, err error) {
	if r.store == nil {
		return row, never, nil
	}
	err = r.store.View(ctx, func(tx storage.Tx) (err error) {
		row, err = tx.UpstreamReferrers(q.repo, q.subject)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return row, never, nil
	}
	return row, max(0, time.Since(row.Checked)), err
}

// keep gives what files list in place of old, which is so old; nil where there
// is nothing to do.
func (r answerRows) keep(q question, old storage.UpstreamReferrersRow, age time.Duration, list []v1.Descriptor) func(context.Context) error {
	known := age != never
	switch {
	case r.store == nil, !known && len(list) == 0, weight(list) > maxKept && !known,
		known && age < renewEvery && reflect.DeepEqual(old.Referrers, list):
		return nil
	case len(list) == 0, weight(list) > maxKept:
		return func(ctx context.Context) error {
			return r.store.Update(ctx, func(tx storage.Tx) error { return tx.DeleteUpstreamReferrers(q.repo, q.subject) })
		}
	}
	row := storage.UpstreamReferrersRow{Repo: q.repo, Subject: q.subject, Referrers: list, Checked: time.Now().UTC().Round(0)}
	return func(ctx context.Context) error {
		return r.store.Update(ctx, func(tx storage.Tx) error { return tx.PutUpstreamReferrers(row) })
	}
}

// drop forgets the list that was kept for q.
func (r answerRows) drop(ctx context.Context, q question) error {
	if r.store == nil {
		return nil
	}
	return r.store.Update(ctx, func(tx storage.Tx) error { return tx.DeleteUpstreamReferrers(q.repo, q.subject) })
}

// clean drops what is not well formed or came twice, and what a list does not
// have: what an upstream sends is not trusted.
func clean(list []v1.Descriptor) []v1.Descriptor {
	out := make([]v1.Descriptor, 0, len(list))
	seen := make(map[digest.Digest]bool, len(list))
	for i := range list {
		d := &list[i]
		if !wellFormed(d) || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		out = append(out, bare(d))
	}
	return out
}

// bare is d with the fields that a list of referrers has.
func bare(d *v1.Descriptor) v1.Descriptor {
	return v1.Descriptor{
		MediaType: d.MediaType, Digest: d.Digest, Size: d.Size,
		ArtifactType: d.ArtifactType, Annotations: d.Annotations,
	}
}

// sorted splits off the SOCI v1 index that clients would take, the first, from
// the rest, and leaves out the others.
func sorted(list []v1.Descriptor) (ts theirs) {
	for i := range list {
		switch d := list[i]; {
		case !isSOCI(d):
			ts.rest = append(ts.rest, d)
		case ts.soci == nil:
			ts.soci = &d
		}
	}
	slices.SortFunc(ts.rest, byDigest)
	return ts
}

func byDigest(a, b v1.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) }
