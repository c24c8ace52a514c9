package web

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

// Facts are what is known here of an image, for those who decide about it.
type Facts struct {
	Reference  string          `json:"reference"`  // canonical
	Repository string          `json:"repository"` // canonical
	Tags       []string        `json:"tags"`       // of the repository, known to lead to it
	Digest     digest.Digest   `json:"digest"`
	MediaType  string          `json:"media_type"`
	SOCI       bool            `json:"soci,omitempty"` // it is a SOCI index, or carries one
	Images     []PlatformFacts `json:"images"`         // one, or those that an index names
	// Beside are the tags at which converted forms of Tags may be.
	Beside []TagFacts `json:"beside,omitempty"`
}

// PlatformFacts are what is known of the image of one platform.
type PlatformFacts struct {
	Digest   digest.Digest   `json:"digest"`
	Platform *v1.Platform    `json:"platform,omitempty"` // as the index has it
	Says     string          `json:"says,omitempty"`     // what it says of itself: os/architecture[/variant]
	Known    bool            `json:"known"`              // its manifest is here; else there are no layers
	SOCI     bool            `json:"soci,omitempty"`     // it is a SOCI index, or carries one
	Layers   []v1.Descriptor `json:"layers,omitempty"`   // also of what is no image
	Index    *Index          `json:"index,omitempty"`    // how far it is
	// Image is where it was seen, and what an operator wants of it; nil: nothing is known.
	Image *storage.ImageRow `json:"image,omitempty"`
}

// FactsOf gives what is known of the image that name means. storage.ErrNotFound.
func FactsOf(ctx context.Context, v Viewer, name string) (f Facts, err error) {
	err = v.View(ctx, func(tx storage.Tx) (err error) {
		f, err = factsOf(tx, name)
		return err
	})
	for i := range f.Images {
		if x := &f.Images[i]; err == nil && x.Says == "" && x.Platform == nil {
			x.Says, err = saidPlatform(ctx, v, x.Digest)
		}
	}
	if err != nil {
		return Facts{}, fmt.Errorf("look up %.300q: %w", name, err)
	}
	return f, nil
}

func factsOf(tx storage.Tx, name string) (Facts, error) {
	x, err := Resolve(tx, name)
	if err != nil {
		return Facts{}, err
	}
	row, err := tx.Manifest(x.Digest)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{
		Reference: x.Reference, Repository: x.Repo.String(), Digest: x.Digest, MediaType: row.Manifest.MediaType,
		SOCI: row.Manifest.IsSOCI(), Tags: []string{},
	}
	err = tx.Tags(x.Repo, "", func(t storage.TagRow) error {
		if t.Digest == x.Digest {
			f.Tags = append(f.Tags, t.Tag)
		}
		return nil
	})
	if err != nil {
		return Facts{}, err
	}
	if f.Beside, err = tagsBeside(tx, x, f.Tags); err != nil {
		return Facts{}, err
	}
	children := row.Manifest.Manifests
	if !row.Manifest.IsIndex() {
		children = []v1.Descriptor{{Digest: x.Digest}}
	}
	for i := range children {
		p, err := platformFacts(tx, &children[i])
		if err != nil {
			return Facts{}, err
		}
		f.Images = append(f.Images, p)
	}
	return f, nil
}

func platformFacts(tx storage.Tx, d *v1.Descriptor) (PlatformFacts, error) {
	p := PlatformFacts{Digest: d.Digest, Platform: d.Platform}
	row, err := tx.Manifest(d.Digest)
	if err != nil {
		return p, ignoreNotFound(err)
	}
	p.Known, p.SOCI, p.Layers = true, row.Manifest.IsSOCI(), row.Manifest.Layers
	img, err := tx.Image(d.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	one, _, err := indexOf(tx, img)
	p.Index, p.Image, p.Says = &one, &img, img.Platform
	return p, err
}
