package catalog

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// Image is one image for one platform as the table has it. It is not changed
// once made.
type Image struct {
	Reference  string        `json:"reference"`          // canonical; by its first tag, or by digest
	Repository string        `json:"repository"`         // canonical; the first that has a tag of it, or else that it was seen in
	Tags       []string      `json:"tags,omitempty"`     // that lead to it now, in that repository
	Manifest   digest.Digest `json:"manifest"`           //
	Platform   string        `json:"platform,omitempty"` // where it is known
	Index      digest.Digest `json:"index,omitempty"`    // of the SOCI index; absent until it is published
	Published  time.Time     `json:"published,omitzero"` // when that was
	Size       int64         `json:"size"`               // of its layers, compressed bytes
	Layers     int           `json:"layer_count"`
	Indexed    int           `json:"indexed"` // of these, with a zTOC
	Wanted     int           `json:"wanted"`  // of these, a zTOC is to come
	Benefit
	Pulls    int64     `json:"pulls"` // of its manifest
	LastPull time.Time `json:"last_pull,omitzero"`
}

// Benefit is what an index is good for: how much of an image a lazy start does
// not need.
type Benefit struct {
	// Read is how much of the image lazy clients had to read so far: the spans
	// that they read of its indexed layers, and all of the others. 0 where none
	// of it was read lazily.
	Read int64 `json:"read"`
	// Saved is how much less than the whole image a lazy start takes: measured,
	// where it was read lazily, and else estimated.
	Saved    int64 `json:"saved"`
	Measured bool  `json:"measured"`
}

// typicalRead is how much of an image's bytes a container reads to be up, as
// measured over many images (Harter et al., "Slacker", FAST 2016).
const typicalRead = 0.064

// Of makes the image of a manifest from the rows. ok is false where there is
// nothing to show: no such image, or one that nobody asked for.
func Of(tx storage.Tx, manifest digest.Digest) (x *Image, ok bool, err error) {
	row, err := tx.Image(manifest)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return of(tx, row)
}

func of(tx storage.Tx, row storage.ImageRow) (x *Image, ok bool, err error) {
	x = &Image{
		Manifest: row.Manifest.Digest, Platform: row.Platform, Index: row.Index, Published: row.Published, Layers: len(row.Layers),
	}
	if err := x.layers(tx, row.Layers); err != nil {
		return nil, false, err
	}
	if row.Fetched && x.Index == "" && x.Indexed == 0 {
		return nil, false, nil
	}
	if err := x.name(tx, row); err != nil {
		return nil, false, err
	}
	p, err := tx.Pulls(x.Manifest)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, false, err
	}
	x.Pulls, x.LastPull = p.Pulls, p.Last
	return x, true, nil
}

// layers sums up what is known of an image's layers.
func (x *Image) layers(tx storage.Tx, list []storage.ImageLayer) error {
	var whole, spans, indexed int64 // bytes: of layers that are pulled whole; read of indexed ones; of these
	for i := range list {
		size := list[i].Descriptor.Size
		x.Size += size
		if list[i].SpanSize == 0 {
			whole += size
			continue
		}
		l, err := tx.Layer(list[i].Descriptor.Digest, list[i].SpanSize)
		switch {
		case errors.Is(err, storage.ErrNotFound), err == nil && l.State == storage.LayerWanted:
			x.Wanted++
			whole += size
		case err != nil:
			return err
		case l.State == storage.LayerIndexed:
			x.Indexed++
			indexed += size
			n, err := ReadOf(tx, l)
			if err != nil {
				return err
			}
			spans += n
		default:
			whole += size
		}
	}
	switch {
	case spans > 0:
		x.Benefit = Benefit{Read: whole + spans, Saved: max(0, indexed-spans), Measured: true}
	case x.Index != "":
		x.Benefit = Benefit{Saved: int64(float64(indexed) * (1 - typicalRead))}
	}
	return nil
}

// ReadOf is how many bytes of an indexed layer are in spans that clients read by
// ranges.
func ReadOf(tx storage.Tx, l storage.LayerRow) (n int64, err error) {
	heat, err := tx.Heat(l.Digest, l.SpanSize)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	raw, err := tx.Spans(l.Digest, l.SpanSize)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	var table ztoc.SpanTable
	if err == nil {
		err = table.UnmarshalBinary(raw)
	}
	if err != nil || table.Len() != len(heat.Spans) {
		return 0, err
	}
	for i := range heat.Spans {
		if heat.Spans[i].Reads > 0 {
			s := table.Span(i)
			n += s.End - s.Off
		}
	}
	return n, nil
}

// ReferenceOf names the image of a row as the table does: by the first of the tags
// that lead to it, or to an index that names it, and else by digest.
func ReferenceOf(tx storage.Tx, row storage.ImageRow) (string, error) {
	x := &Image{Manifest: row.Manifest.Digest}
	err := x.name(tx, row)
	return x.Reference, err
}

// name finds what leads to the image now: in the first repository that has a tag of
// it, and else in the first that it was seen in.
func (x *Image) name(tx storage.Tx, row storage.ImageRow) error {
	if len(row.Repos) == 0 {
		x.Reference = x.Manifest.String()
		return nil
	}
	tags, err := x.leading(tx)
	repo := row.Repos[0]
	if i := slices.IndexFunc(row.Repos, func(r oci.Repo) bool { return len(tags[r]) > 0 }); i >= 0 {
		repo = row.Repos[i]
	}
	x.called(repo, tags[repo])
	return err
}

// NameIn names the image as the repository repo has it now: by the first of the tags
// there that lead to it, and else by digest. It is for who made the image.
func (x *Image) NameIn(tx storage.Tx, repo oci.Repo) error {
	tags, err := x.leading(tx)
	x.called(repo, tags[repo])
	return err
}

// leading are the tags that lead to the image, or to an index that names it.
func (x *Image) leading(tx storage.Tx) (tags map[oci.Repo][]string, err error) {
	leads := []digest.Digest{x.Manifest}
	err = tx.NamedBy(x.Manifest, func(index digest.Digest) error {
		leads = append(leads, index)
		return nil
	})
	tags = map[oci.Repo][]string{}
	for _, d := range leads {
		if err != nil {
			break
		}
		err = tx.TagsOf(d, func(r oci.Repo, tag string) error {
			if !slices.Contains(tags[r], tag) {
				tags[r] = append(tags[r], tag)
			}
			return nil
		})
	}
	return tags, err
}

// called names the image by the first of the tags of a repository.
func (x *Image) called(repo oci.Repo, tags []string) {
	x.Repository, x.Tags = repo.String(), tags
	x.Reference = x.Repository + "@" + x.Manifest.String()
	if len(tags) > 0 {
		slices.SortFunc(tags, newerTag)
		x.Reference = x.Repository + ":" + tags[0]
	}
}

// newerTag sorts tags as people read them: the numbers in them as numbers, the
// longest version first, so that 7.2.4 comes before 7.2 and 7 before latest.
func newerTag(a, b string) int {
	if n := strings.Count(b, ".") - strings.Count(a, "."); n != 0 {
		return n
	}
	if len(a) != len(b) {
		return len(b) - len(a)
	}
	return strings.Compare(b, a)
}
