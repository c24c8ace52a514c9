package web

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Published is an index at the image's upstream, or why it is not there.
type Published struct {
	Repository string        `json:"repository"` // canonical
	Form       string        `json:"form"`       // v1 or v2
	Index      digest.Digest `json:"index"`      // of the SOCI v1 index, or the converted image index
	// Listed says where a v1 index is found: by the referrers API, or under a
	// fallback tag. Tags are where a v2 image is.
	Listed  string        `json:"listed,omitempty"`
	Tags    []string      `json:"tags,omitempty"`
	Taken   []string      `json:"taken,omitempty"`   // tags that lead to something that is not from here, and were left
	Instead digest.Digest `json:"instead,omitempty"` // the SOCI v1 index that the upstream has and that was not made here: ours was not put beside it
	// Alike says that Instead is made as those here are, by another sociable or the
	// soci command: a failed push says what to do.
	Alike bool `json:"alike,omitempty"`
	// Begun says that a push began and has not ended: it may be there.
	Begun bool      `json:"begun,omitempty"`
	At    time.Time `json:"at"`
}

// Where a v1 index is listed.
const (
	ListedByAPI = "referrers"
	ListedByTag = "fallback-tag"
)

func publishedOf(row *storage.PublishedRow) Published {
	p := Published{Repository: row.Repo.String(), Form: "v1", Index: row.Index, Instead: row.Instead, Tags: row.Tags, Taken: row.Taken, At: row.At}
	switch {
	case row.V2:
		p.Form, p.Begun = "v2", len(row.Pushing) > 0
	case row.Instead != "":
		p.Alike = row.Alike
	case row.Begun, row.Unlisted: // which is listed again, or not at all
		p.Begun = true
	case row.Fallback:
		p.Listed = ListedByTag
	default:
		p.Listed = ListedByAPI
	}
	return p
}

// addPublished finds what is at upstreams of the indexes that are offered of an
// image: its v1 index, and the converted forms of what names it.
func (x *Index) addPublished(tx storage.Tx) error {
	subjects := []digest.Digest{x.Manifest}
	err := tx.NamedBy(x.Manifest, func(by digest.Digest) error {
		subjects = append(subjects, by)
		return nil
	})
	for _, subject := range subjects {
		if err != nil {
			return err
		}
		err = tx.PublishedOf(subject, func(row storage.PublishedRow) error {
			if row.V2 {
				_, err := tx.Conversion(subject, row.Repo)
				if err == nil {
					x.Published = append(x.Published, publishedOf(&row))
				}
				return ignoreNotFound(err)
			}
			if row.Index == x.Index {
				x.Published = append(x.Published, publishedOf(&row))
			}
			return nil
		})
	}
	return err
}

// pushed are the digests at the upstream of from, or, if that is zero, at all, of
// a manifest or index, and of all that is below it.
func pushed(tx storage.Tx, from oci.Repo, root digest.Digest) (list []Published, err error) {
	all, err := storage.Below(tx, root)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		err := tx.PublishedOf(d, func(row storage.PublishedRow) error {
			if (from == (oci.Repo{}) || row.Repo == from) && row.Instead == "" && !row.Unlisted && (!row.V2 || len(row.Tags)+len(row.Pushing) > 0) {
				list = append(list, publishedOf(&row))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
