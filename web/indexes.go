package web

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Index is one image manifest that passed and how far its SOCI index is.
type Index struct {
	Repository string   `json:"repository"`          // canonical; the first that it was seen in
	Tags       []string `json:"tags,omitempty"`      // in it, known to lead to the manifest, or to an index of images with it
	Withdrawn  bool     `json:"withdrawn,omitempty"` // an operator wants no index of it in Repository
	// NotOffered says that a running server does not list Index in Repository.
	NotOffered bool          `json:"not_offered,omitempty"`
	Also       []IndexName   `json:"also,omitempty"` // the other repositories that have it
	Manifest   digest.Digest `json:"manifest"`       // of the image
	Platform   string        `json:"platform,omitempty"`
	Index      digest.Digest `json:"index,omitempty"`     // of the index manifest; absent until it is published
	Size       int64         `json:"size"`                // of the index manifest, bytes; 0 until then
	Learned    digest.Digest `json:"learned,omitempty"`   // of the index that names what was learnt of starts, too, where one is offered
	Version    string        `json:"version,omitempty"`   // of the index; "": v1, the only one that is listed here
	Layers     []Layer       `json:"layers"`              // in the image's order
	Created    time.Time     `json:"created,omitzero"`    // when the index was published
	Published  []Published   `json:"published,omitempty"` // at upstreams, see index.rules[].publish_upstream
	Ended      *Ended        `json:"ended,omitempty"`     // by the request that this answers, see Creator
}

// IndexName is a repository, and the tags in it that lead to an image.
type IndexName struct {
	Repository string   `json:"repository"` // canonical
	Tags       []string `json:"tags,omitempty"`
	Withdrawn  bool     `json:"withdrawn,omitempty"`   // an operator wants no index of it there
	NotOffered bool     `json:"not_offered,omitempty"` // a running server does not list its index there
}

// Layer is one layer of it.
type Layer struct {
	Digest    digest.Digest      `json:"digest"`
	Size      int64              `json:"size"` // compressed bytes
	MediaType string             `json:"media_type"`
	State     storage.LayerState `json:"state"`
	Reason    string             `json:"reason,omitempty"` // why it was skipped, or what it waits for
	ZTOC      digest.Digest      `json:"ztoc,omitempty"`
	ZTOCSize  int64              `json:"ztoc_size,omitempty"`
	Spans     int                `json:"spans,omitempty"`
}

// Indexes lists every image, by manifest digest, but for those of platforms that
// nobody has pulled, whose manifests alone were fetched for a converted image, and
// those that were deleted.
func Indexes(ctx context.Context, v Viewer, offers Offers) ([]Index, error) {
	list := []Index{}
	var configs []digest.Digest
	err := v.View(ctx, func(tx storage.Tx) error {
		return tx.Images(func(row storage.ImageRow) error {
			one, config, err := indexOf(tx, row)
			if err == nil {
				err = one.addOffers(tx, row.Repos, offers)
			}
			if row.Fetched && one.untouched() || len(row.Repos) == 0 { // it was deleted
				return err
			}
			list, configs = append(list, one), append(configs, config)
			return err
		})
	})
	for i := range list {
		if err == nil {
			err = list[i].readPlatform(ctx, v, configs[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	return list, nil
}

// untouched reports an image of which no layer came by.
func (x *Index) untouched() bool {
	return x.Index == "" && !slices.ContainsFunc(x.Layers, func(l Layer) bool { return l.ZTOC != "" })
}

// BeginWith has repository, where it is one of those that have the image, be the one
// that x begins with.
func (x *Index) BeginWith(repository string) {
	i := slices.IndexFunc(x.Also, func(n IndexName) bool { return n.Repository == repository })
	if i < 0 || x.Repository == repository {
		return
	}
	first := IndexName{x.Repository, x.Tags, x.Withdrawn, x.NotOffered}
	n := x.Also[i]
	x.Repository, x.Tags, x.Withdrawn, x.NotOffered = n.Repository, n.Tags, n.Withdrawn, n.NotOffered
	x.Also = slices.Concat([]IndexName{first}, x.Also[:i], x.Also[i+1:])
}

// IndexOf gives one image; storage.ErrNotFound.
func IndexOf(ctx context.Context, v Viewer, manifest digest.Digest, offers Offers) (one Index, err error) {
	var config digest.Digest
	err = v.View(ctx, func(tx storage.Tx) error {
		row, err := tx.Image(manifest)
		if err != nil {
			return err
		}
		if one, config, err = indexOf(tx, row); err == nil {
			err = one.addOffers(tx, row.Repos, offers)
		}
		return err
	})
	if err == nil {
		err = one.readPlatform(ctx, v, config)
	}
	return one, err
}

// Offers reports whether the index of an image is for those who pull it from repo; nil:
// nobody knows the rules.
type Offers func(tx storage.Tx, repo oci.Repo, subject digest.Digest) (bool, error)

// addOffers finds the repositories, which are those of x, in which its index is not
// listed.
func (x *Index) addOffers(tx storage.Tx, repos []oci.Repo, offers Offers) error {
	if offers == nil || x.Index == "" {
		return nil
	}
	for i, repo := range repos {
		ok, err := offers(tx, repo, x.Manifest)
		if err != nil {
			return err
		}
		if i == 0 {
			x.NotOffered = !ok
		} else {
			x.Also[i-1].NotOffered = !ok
		}
	}
	return nil
}

// indexOf also gives the image's config where that alone tells the platform.
func indexOf(tx storage.Tx, row storage.ImageRow) (Index, digest.Digest, error) {
	out := Index{
		Manifest: row.Manifest.Digest, Index: row.Index, Size: row.IndexSize, Created: row.Published, Layers: []Layer{},
	}
	if row.Learned != nil {
		out.Learned = row.Learned.Index
	}
	config, err := out.name(tx, row)
	if err != nil {
		return out, "", err
	}
	for _, il := range row.Layers {
		l := Layer{
			Digest: il.Descriptor.Digest, Size: il.Descriptor.Size, MediaType: il.Descriptor.MediaType,
			State: storage.LayerSkipped, Reason: il.Skip,
		}
		if il.SpanSize > 0 {
			lr, err := tx.Layer(l.Digest, il.SpanSize)
			switch {
			case errors.Is(err, storage.ErrNotFound):
				l.State = storage.LayerWanted
			case err != nil:
				return out, "", err
			default:
				l.State, l.Reason, l.ZTOC, l.ZTOCSize, l.Spans = lr.State, lr.Reason, lr.ZTOC, lr.ZTOCSize, lr.Spans
			}
			if l.State == storage.LayerWanted && l.Reason == "" {
				if l.Reason, err = waitsFor(tx, l.Digest, il.SpanSize, row.Index != ""); err != nil {
					return out, "", err
				}
			}
		}
		out.Layers = append(out.Layers, l)
	}
	return out, config, out.addPublished(tx)
}
