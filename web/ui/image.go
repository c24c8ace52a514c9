package ui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web/catalog"
)

// Images is a page of the list.
type Images struct {
	catalog.Page
	Search string         `json:"search,omitempty"`
	Sort   catalog.Column `json:"sort"`
	Order  string         `json:"order"` // asc or desc
	Offset int            `json:"offset"`
	Limit  int            `json:"limit"`
}

const (
	shownImages = 50
	mostImages  = 1000
)

func (u *UI) images(r *http.Request) (*Images, error) {
	u.fresh(r.Context())
	x := &Images{Search: r.FormValue("q"), Order: r.FormValue("order"), Limit: shownImages}
	var err error
	if x.Sort, err = catalog.ParseColumn(r.FormValue("sort")); err != nil {
		return nil, bad("%v", err)
	}
	switch x.Order {
	case "":
		x.Order = "asc"
	case "asc", "desc":
	default:
		return nil, bad("order is asc or desc, not %.20q", x.Order)
	}
	if x.Offset, err = number(r, "offset", 0, 1<<31-1); err != nil {
		return nil, err
	}
	if x.Limit, err = number(r, "limit", shownImages, mostImages); err != nil {
		return nil, err
	}
	x.Page = u.opt.Catalog.Page(catalog.Query{
		Search: x.Search, Sort: x.Sort, Down: x.Order == "desc", Offset: x.Offset, Limit: x.Limit,
	})
	return x, nil
}

// number reads a parameter between 0 and most.
func number(r *http.Request, name string, absent, most int) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, oci.NewError(errcode.ErrorCodePaginationNumberInvalid, "%s is a number from 0 to %d, not %.20q", name, most, s)
	}
	return n, nil
}

// Image is one image with its layers.
type Image struct {
	*catalog.Image
	MediaType    string     `json:"media_type"`
	Repositories []string   `json:"repositories"`
	Withdrawn    bool       `json:"withdrawn,omitempty"` // an operator wants no index of it
	Pins         []string   `json:"pins,omitempty"`      // the names by which it is pinned
	List         []Layer    `json:"layers"`              // in the image's order
	Referrers    []Referrer `json:"referrers"`
	Commands     []Command  `json:"commands"`
}

// Layer is one layer of an image, in short.
type Layer struct {
	Digest    digest.Digest      `json:"digest"`
	Size      int64              `json:"size"` // compressed
	MediaType string             `json:"media_type"`
	State     storage.LayerState `json:"state"`
	Reason    string             `json:"reason,omitempty"` // why it was skipped
	ZTOC      digest.Digest      `json:"ztoc,omitempty"`
	ZTOCSize  int64              `json:"ztoc_size,omitempty"`
	Spans     int                `json:"spans,omitempty"`
	Whole     bool               `json:"whole"` // all of it is here
	Read      int64              `json:"read"`  // bytes of spans that clients read by ranges
	Made      string             `json:"created_by,omitempty"`
}

// Referrer is what refers to the image, or to another referrer.
type Referrer struct {
	Digest       digest.Digest `json:"digest"`
	ArtifactType string        `json:"artifact_type"`
	Size         int64         `json:"size"`
	From         string        `json:"from"` // here: made by this proxy; pushed; upstream: it lists it
	// Behind is the SOCI v1 index that was made here, where this is another: clients are
	// offered one, and that one goes before.
	Behind    digest.Digest `json:"behind,omitempty"`
	Referrers []Referrer    `json:"referrers,omitempty"`
}

func digestOf(r *http.Request) (digest.Digest, error) { return oci.ParseDigest(mux.Vars(r)["digest"]) }

func unknown(format string, args ...any) error {
	return oci.NewError(errcode.ErrorCodeManifestUnknown, format, args...)
}

func (u *UI) image(r *http.Request) (*Image, error) {
	d, err := digestOf(r)
	if err != nil {
		return nil, err
	}
	u.fresh(r.Context())
	x := &Image{List: []Layer{}, Referrers: []Referrer{}, Repositories: []string{}}
	var config digest.Digest
	err = u.opt.Store.View(r.Context(), func(tx storage.Tx) error {
		row, err := tx.Image(d)
		if errors.Is(err, storage.ErrNotFound) {
			return unknown("no image %s has passed here", d)
		}
		if err != nil {
			return err
		}
		config, err = x.fill(tx, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	x.read(r.Context(), u.opt.Store, config)
	x.Commands = u.commands(r, x.Image)
	return x, nil
}

func (x *Image) fill(tx storage.Tx, row storage.ImageRow) (config digest.Digest, err error) {
	var ok bool
	if x.Image, ok, err = catalog.Of(tx, row.Manifest.Digest); err != nil {
		return "", err
	}
	if !ok {
		return "", unknown("nobody has pulled image %s", row.Manifest.Digest)
	}
	x.MediaType, x.Withdrawn = row.Manifest.MediaType, row.WithdrawnEverywhere()
	for _, repo := range row.Repos {
		x.Repositories = append(x.Repositories, repo.String())
	}
	for i := range row.Layers {
		l, err := layerOf(tx, &row.Layers[i])
		if err != nil {
			return "", err
		}
		x.List = append(x.List, l)
	}
	if x.Pins, err = pinsOf(tx, row.Manifest.Digest); err != nil {
		return "", err
	}
	if x.Referrers, err = referrers(tx, row.Repos, row.Manifest.Digest, 0); err != nil {
		return "", err
	}
	m, err := tx.Manifest(row.Manifest.Digest)
	if err == nil && m.Manifest.Config != nil {
		config = m.Manifest.Config.Digest
	}
	return config, ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

func layerOf(tx storage.Tx, il *storage.ImageLayer) (Layer, error) {
	l := Layer{
		Digest: il.Descriptor.Digest, Size: il.Descriptor.Size, MediaType: il.Descriptor.MediaType, State: storage.LayerSkipped, Reason: il.Skip,
	}
	_, err := tx.Blob(l.Digest)
	l.Whole = err == nil
	if err := ignoreNotFound(err); err != nil || il.SpanSize == 0 {
		return l, err
	}
	row, err := tx.Layer(l.Digest, il.SpanSize)
	if errors.Is(err, storage.ErrNotFound) {
		l.State = storage.LayerWanted
		return l, nil
	}
	if err != nil {
		return l, err
	}
	l.State, l.Reason, l.ZTOC, l.ZTOCSize, l.Spans = row.State, row.Reason, row.ZTOC, row.ZTOCSize, row.Spans
	if row.State == storage.LayerIndexed {
		l.Read, err = catalog.ReadOf(tx, row)
	}
	return l, err
}

// maxDepth bounds a tree of referrers, maxReferrers each list in it.
const (
	maxDepth     = 4
	maxReferrers = 100
)

// referrers lists what refers to d: what was made here, pushed here, and listed by
// the upstreams of repos.
func referrers(tx storage.Tx, repos []oci.Repo, d digest.Digest, depth int) ([]Referrer, error) {
	list, seen := []Referrer{}, map[digest.Digest]bool{}
	add := func(x v1.Descriptor, from string) error {
		if seen[x.Digest] || len(list) >= maxReferrers {
			return nil
		}
		seen[x.Digest] = true
		out := Referrer{Digest: x.Digest, ArtifactType: x.ArtifactType, Size: x.Size, From: from}
		if depth < maxDepth {
			below, err := referrers(tx, repos, x.Digest, depth+1)
			if err != nil {
				return err
			}
			if len(below) > 0 {
				out.Referrers = below
			}
		}
		list = append(list, out)
		return nil
	}
	err := tx.Referrers(d, func(row storage.ReferrerRow) error {
		if row.Repo == (oci.Repo{}) {
			return add(row.Descriptor, "here")
		}
		return add(row.Descriptor, "pushed")
	})
	for _, repo := range repos {
		if err != nil {
			break
		}
		var row storage.UpstreamReferrersRow
		if row, err = tx.UpstreamReferrers(repo, d); err != nil {
			err = ignoreNotFound(err)
			continue
		}
		for i := range row.Referrers {
			if err = add(row.Referrers[i], "upstream"); err != nil {
				break
			}
		}
	}
	putBehind(list)
	return list, err
}

// putBehind notes which SOCI v1 indexes are not offered where the one is that was made
// here.
func putBehind(list []Referrer) {
	soci := func(x Referrer) bool { return x.ArtifactType == oci.MediaTypeSOCIIndexV1 }
	made := slices.IndexFunc(list, func(x Referrer) bool { return soci(x) && x.From == "here" })
	for i := range list {
		if made >= 0 && i != made && soci(list[i]) {
			list[i].Behind = list[made].Digest
		}
	}
}

// read adds what the image's config says, where that is here.
func (x *Image) read(ctx context.Context, s *storage.Store, config digest.Digest) {
	c, ok := catalog.ReadConfig(ctx, s, config)
	if !ok {
		return
	}
	if x.Platform == "" && c.OS != "" && c.Architecture != "" {
		named := *x.Image
		named.Platform = oci.PlatformName(c.Platform)
		x.Image = &named
	}
	i := 0
	for _, h := range c.History {
		if !h.EmptyLayer && i < len(x.List) {
			x.List[i].Made = clip(h.CreatedBy, 300)
			i++
		}
	}
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n]) + "…"
}
