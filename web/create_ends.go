package web

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Ended is what the sizes that somebody asked for took from repositories: they hold
// for an image wherever it is.
type Ended struct {
	// NoLongerOffered are the repositories, canonical, in which an index of the image
	// was listed before, and none will be.
	NoLongerOffered []string `json:"no_longer_offered"`
	// Upstream is what was pushed to their upstreams, and stays there.
	Upstream []Published `json:"upstream,omitempty"`
}

// offered gives, for each image, the repositories in which its index is for those who
// pull it. listed wants one that is there.
func (c Creator) offered(ctx context.Context, manifests []digest.Digest, listed bool) (map[digest.Digest][]oci.Repo, error) {
	out := map[digest.Digest][]oci.Repo{}
	err := c.Store.View(ctx, func(tx storage.Tx) error {
		for _, d := range manifests {
			img, err := tx.Image(d)
			if err != nil && ignoreNotFound(err) == nil || err == nil && listed && img.Index == "" {
				continue
			}
			for _, repo := range img.Repos {
				var ok bool
				if err == nil {
					ok, err = c.Index.Offers(tx, repo, d)
				}
				if ok {
					out[d] = append(out[d], repo)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// wantAndTell asks for the index of each image, and gives what that ends.
func (c Creator) wantAndTell(ctx context.Context, f Found, how storage.Asked) (map[digest.Digest]*Ended, error) {
	before, err := c.offered(ctx, f.Manifests, true)
	if err != nil {
		return nil, err
	}
	if err := c.want(ctx, f, how); err != nil {
		return nil, err
	}
	after, err := c.offered(ctx, f.Manifests, false)
	if err != nil {
		return nil, err
	}
	ends := map[digest.Digest]*Ended{}
	err = c.Store.View(ctx, func(tx storage.Tx) error {
		clear(ends)
		for d, repos := range before {
			for _, repo := range repos {
				if slices.Contains(after[d], repo) {
					continue
				}
				there, err := pushed(tx, repo, d)
				if err != nil {
					return err
				}
				if ends[d] == nil {
					ends[d] = &Ended{}
				}
				ends[d].NoLongerOffered = append(ends[d].NoLongerOffered, repo.String())
				for _, p := range there {
					if p.Form == "v1" { // a converted image stays offered as it was
						ends[d].Upstream = append(ends[d].Upstream, p)
					}
				}
			}
		}
		return nil
	})
	return ends, err
}
