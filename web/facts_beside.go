package web

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// convertedSuffix is what the tag of a converted form ends in.
const convertedSuffix = "-soci"

// TagFacts are what is known of the tag at which the converted form of another is.
type TagFacts struct {
	Tag    string          `json:"tag"`              // with the suffix
	Digest digest.Digest   `json:"digest,omitempty"` // to which it led at the upstream, where that is known
	Made   []digest.Digest `json:"made,omitempty"`   // that were made here to be at it
}

// tagsBeside looks at the tags with the suffix of those that lead to x.
func tagsBeside(tx storage.Tx, x Named, tags []string) (list []TagFacts, err error) {
	for _, base := range tags {
		f := TagFacts{Tag: base + convertedSuffix}
		add := func(d digest.Digest, err error) error {
			if err == nil && d != "" && !slices.Contains(f.Made, d) {
				f.Made = append(f.Made, d)
			}
			return ignoreNotFound(err)
		}
		conv, err := tx.Conversion(x.Digest, x.Repo)
		if err = add(conv.Index.Digest, err); err != nil {
			return nil, err
		}
		last, err := tx.ConvertedTag(x.Repo, base)
		if err = add(last.Index, err); err != nil {
			return nil, err
		}
		err = tx.AllPublished(func(row storage.PublishedRow) error {
			if row.V2 && row.Repo == x.Repo && (slices.Contains(row.Tags, f.Tag) || slices.Contains(row.Pushing, f.Tag)) {
				return add(row.Index, nil)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		row, err := tx.Tag(x.Repo, f.Tag)
		if err = ignoreNotFound(err); err != nil {
			return nil, err
		}
		if f.Digest = row.Digest; f.Digest != "" {
			blob, err := tx.Blob(f.Digest)
			if blob.Kind != storage.KindIndex {
				err = ignoreNotFound(err)
			} else {
				err = add(f.Digest, err)
			}
			if err != nil {
				return nil, err
			}
		}
		list = append(list, f)
	}
	return list, nil
}
