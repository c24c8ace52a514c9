package storage

import (
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// WithdrawIndexes takes the SOCI indexes, v1 and v2, of the manifest or index
// root, and of all that is below it, off what is offered in repo, the zero one
// being every repository, and says of the images that none is wanted there. It
// gives those that were. What is offered nowhere any more stays readable by digest
// until it was retired for long enough.
func WithdrawIndexes(tx Tx, repo oci.Repo, root digest.Digest, now time.Time) (gone []digest.Digest, err error) {
	all, err := Below(tx, root)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		made, err := withdrawConversions(tx, repo, d, now)
		if err != nil {
			return nil, err
		}
		gone = append(gone, made...)
		img, err := tx.Image(d)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if img.Index != "" && !img.WithdrawnFrom(repo) {
			gone = append(gone, img.Index)
		}
		if err := img.withdraw(tx, repo, now); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

func withdrawConversions(tx Tx, repo oci.Repo, source digest.Digest, now time.Time) (gone []digest.Digest, err error) {
	var made []ConversionRow
	err = tx.Conversions(source, func(row ConversionRow) error {
		if repo == (oci.Repo{}) || row.Repo == repo {
			made = append(made, row)
		}
		return nil
	})
	for _, row := range made {
		if err != nil {
			return nil, err
		}
		gone = append(gone, row.Index.Digest)
		err = unconvertIn(tx, row)
		for _, m := range row.Made {
			err = errors.Join(err, tx.PutRetired(RetiredRow{Digest: m.Digest, Since: now}))
		}
	}
	return gone, err
}

// withdraw writes that no index is wanted in repo, and takes away what is wanted
// nowhere any more.
func (r *ImageRow) withdraw(tx Tx, repo oci.Repo, now time.Time) error {
	switch {
	case repo == (oci.Repo{}):
		r.Withdrawn, r.WithdrawnIn, r.Asked = true, nil, nil
	case !r.WithdrawnFrom(repo):
		r.WithdrawnIn = append(slices.Clone(r.WithdrawnIn), repo)
	}
	if a := r.Asked; a != nil {
		left := slices.DeleteFunc(slices.Clone(r.Repos), func(o oci.Repo) bool { return o == repo || !a.In(o) })
		if r.Asked = nil; len(left) > 0 {
			r.Asked = &Asked{SpanSize: a.SpanSize, MinLayerSize: a.MinLayerSize, Repos: left}
		}
	}
	if !r.WithdrawnEverywhere() {
		return tx.PutImage(*r)
	}
	if r.Index != "" { // a copy that was pushed somewhere stays a referrer there
		err := errors.Join(tx.DeleteReferrerIn(oci.Repo{}, r.Manifest.Digest, r.Index), tx.PutRetired(RetiredRow{Digest: r.Index, Since: now}))
		if err != nil {
			return err
		}
	}
	if r.Learned != nil {
		if err := tx.PutRetired(RetiredRow{Digest: r.Learned.Index, Since: now}); err != nil {
			return err
		}
	}
	r.Learned, r.Index, r.IndexSize, r.Published = nil, "", 0, time.Time{}
	return tx.PutImage(*r)
}

// unconvertIn forgets the conversion in its own repository alone.
func unconvertIn(tx Tx, row ConversionRow) error {
	var tags []ConvertedTagRow
	err := tx.ConvertedTags(func(t ConvertedTagRow) error {
		if t.Repo == row.Repo && t.Index == row.Index.Digest {
			tags = append(tags, t)
		}
		return nil
	})
	err = errors.Join(err, tx.DeleteConversion(row.Source.Digest, row.Repo))
	for _, t := range tags {
		err = errors.Join(err, tx.DeleteConvertedTag(t.Repo, t.Tag))
	}
	return err
}
