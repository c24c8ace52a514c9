package web

import (
	"context"
	"fmt"
	"net/http"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web/catalog"
)

// Stats are what indexes are good for: of one image, or of all.
type Stats struct {
	Totals catalog.Totals   `json:"totals"`
	Images []*catalog.Image `json:"images"` // one for each platform that is known
	// Namespaces are the hosted ones, where no image was named.
	Namespaces []storage.NamespaceUse `json:"namespaces,omitempty"`
}

// StatsOf gives those of the image that name means; "" means all images.
// storage.ErrNotFound.
func StatsOf(ctx context.Context, v Viewer, name string) (Stats, error) {
	s := Stats{Images: []*catalog.Image{}}
	err := v.View(ctx, func(tx storage.Tx) error {
		s = Stats{Images: []*catalog.Image{}}
		if name == "" {
			return tx.Images(func(row storage.ImageRow) error { return s.add(tx, row) })
		}
		f, err := factsOf(tx, name)
		if err != nil {
			return err
		}
		for i := range f.Images {
			row, err := tx.Image(f.Images[i].Digest)
			if err == nil {
				err = s.add(tx, row)
			}
			if ignoreNotFound(err) != nil {
				return err
			}
		}
		if err := s.asNamed(tx, name); err != nil {
			return err
		}
		if len(s.Images) == 0 {
			return isNotHere("%.300q is here, and is no image that could be indexed", name)
		}
		return nil
	})
	for i := range s.Images {
		if err == nil && s.Images[i].Platform == "" {
			err = s.readPlatform(ctx, v, i)
		}
	}
	if err != nil {
		return Stats{}, fmt.Errorf("look up what indexes save: %w", err)
	}
	return s, nil
}

// asNamed has the images called what the one that was asked for is called, where
// other repositories have them, too. A digest alone is no name.
func (s *Stats) asNamed(tx storage.Tx, word string) error {
	if _, err := oci.ParseDigest(word); err == nil {
		return nil
	}
	named, err := Resolve(tx, word)
	if err != nil {
		return err
	}
	for _, x := range s.Images {
		if err := x.NameIn(tx, named.Repo); err != nil {
			return err
		}
		x.Reference = named.Reference
	}
	return nil
}

// readPlatform finds the platform of the i-th image where its row does not have it.
func (s *Stats) readPlatform(ctx context.Context, v Viewer, i int) error {
	x, err := IndexOf(ctx, v, s.Images[i].Manifest, nil)
	if err != nil {
		return ignoreNotFound(err)
	}
	with := *s.Images[i] // others may have it, too
	with.Platform = x.Platform
	s.Images[i] = &with
	return nil
}

func (s *Stats) add(tx storage.Tx, row storage.ImageRow) error {
	x, ok, err := catalog.Of(tx, row.Manifest.Digest)
	if err == nil && ok {
		s.Images = append(s.Images, x)
		s.Totals.Add(x)
	}
	return err
}

func (s *Web) stats(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("name")
	out, err := StatsOf(r.Context(), s.opt.Store, name)
	if err == nil && name == "" && s.opt.Namespaces != nil {
		out.Namespaces, err = s.opt.Namespaces(r.Context())
	}
	if err != nil {
		return operatorError(err)
	}
	return sendJSON(w, out)
}
