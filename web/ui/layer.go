package ui

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/ztoc"
)

// LayerView is one layer: its spans, and who has it.
type LayerView struct {
	Layer
	SpanSize  int64         `json:"span_size,omitempty"` // uncompressed bytes
	DiffID    digest.Digest `json:"diff_id,omitempty"`
	Built     time.Time     `json:"built,omitzero"`
	BuildTime float64       `json:"build_seconds,omitempty"`
	Cached    int64         `json:"cached"` // bytes that are here, whole or in spans
	Heat      []Span        `json:"span_list"`
	Images    []ImageName   `json:"images"`          // that have it; the first few
	Image     digest.Digest `json:"image,omitempty"` // as which its files are looked at
	Position  int           `json:"position"`        // in that image, from 1
	Of        int           `json:"of"`
	repo      oci.Repo
	below     []storage.ImageLayer // in that image, lowest first
	row       storage.LayerRow
}

// Span is one span of it.
type Span struct {
	Number int           `json:"number"`
	Offset int64         `json:"offset"` // compressed
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
	Cached bool          `json:"cached"`
	Reads  uint32        `json:"reads"` // by clients, those at about the same time being one
	Last   time.Time     `json:"last_read,omitzero"`
}

// ImageName names an image that has the layer.
type ImageName struct {
	Manifest  digest.Digest `json:"manifest"`
	Reference string        `json:"reference"`
}

const shownOwners = 10

// look reads what there is of the layer d, as the image says or any that has it.
func (u *UI) look(ctx context.Context, d digest.Digest, image string) (*LayerView, error) {
	v := &LayerView{Layer: Layer{Digest: d}, Heat: []Span{}, Images: []ImageName{}}
	var want digest.Digest
	if image != "" {
		var err error
		if want, err = oci.ParseDigest(image); err != nil {
			return nil, err
		}
	}
	err := u.opt.Store.View(ctx, func(tx storage.Tx) error {
		use, err := v.owners(tx, want)
		if err != nil {
			return err
		}
		if v.Layer, err = layerOf(tx, use); err != nil || v.State != storage.LayerIndexed {
			return err
		}
		if v.row, err = tx.Layer(d, use.SpanSize); err != nil {
			return err
		}
		v.SpanSize, v.DiffID, v.Built, v.BuildTime = v.row.SpanSize, v.row.DiffID, v.row.Built, v.row.BuildTime.Seconds()
		return nil
	})
	return v, err
}

// owners finds the images that have the layer, and its place in the wanted one or
// the first.
func (v *LayerView) owners(tx storage.Tx, want digest.Digest) (use *storage.ImageLayer, err error) {
	d := v.Digest
	see := func(row storage.ImageRow) error {
		if len(v.Images) < shownOwners {
			name, err := catalog.ReferenceOf(tx, row)
			if err != nil {
				return err
			}
			v.Images = append(v.Images, ImageName{row.Manifest.Digest, name})
		}
		i := slices.IndexFunc(row.Layers, func(l storage.ImageLayer) bool { return l.Descriptor.Digest == d })
		if i < 0 || use != nil && row.Manifest.Digest != want {
			return nil
		}
		use, v.below, v.Image, v.Position, v.Of = &row.Layers[i], row.Layers[:i], row.Manifest.Digest, i+1, len(row.Layers)
		if len(row.Repos) > 0 {
			v.repo = row.Repos[0]
		}
		return nil
	}
	if want != "" {
		row, err := tx.Image(want)
		if err == nil {
			err = see(row)
		}
		if ignoreNotFound(err) != nil {
			return nil, err
		}
		if use == nil {
			return nil, unknown("no image %s with the layer %s has passed here", want, d)
		}
	}
	more := func(row storage.ImageRow) error {
		if row.Manifest.Digest != want {
			if err := see(row); err != nil {
				return err
			}
		}
		if len(v.Images) >= shownOwners && use != nil {
			return errEnough
		}
		return nil
	}
	if err = tx.ImagesOf(d, more); err == nil && use == nil { // what is left out is filed under manifests alone
		err = tx.NamedBy(d, func(manifest digest.Digest) error {
			row, err := tx.Image(manifest)
			if err != nil {
				return ignoreNotFound(err)
			}
			return more(row)
		})
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if use == nil {
		return nil, unknown("no image that has passed here has the layer %s", d)
	}
	return use, nil
}

func (u *UI) layer(r *http.Request) (*LayerView, error) {
	d, err := digestOf(r)
	if err != nil {
		return nil, err
	}
	u.fresh(r.Context())
	v, err := u.look(r.Context(), d, r.FormValue("image"))
	if err != nil {
		return nil, err
	}
	if v.Whole {
		v.Cached = v.Size
	}
	if v.State != storage.LayerIndexed {
		return v, nil
	}
	if err := u.opt.Store.View(r.Context(), v.heat); err != nil {
		return nil, err
	}
	return v, u.diffID(r.Context(), v)
}

// diffID takes the layer's from the config of the image, where that is here.
func (u *UI) diffID(ctx context.Context, v *LayerView) error {
	if v.DiffID != "" {
		return nil
	}
	var config digest.Digest
	err := u.opt.Store.View(ctx, func(tx storage.Tx) error {
		m, err := tx.Manifest(v.Image)
		if err == nil && m.Manifest.Config != nil {
			config = m.Manifest.Config.Digest
		}
		return ignoreNotFound(err)
	})
	if c, ok := catalog.ReadConfig(ctx, u.opt.Store, config); ok && len(c.RootFS.DiffIDs) == v.Of {
		v.DiffID = c.RootFS.DiffIDs[v.Position-1]
	}
	return err
}

// heat adds the spans.
func (v *LayerView) heat(tx storage.Tx) error {
	raw, err := tx.Spans(v.Digest, v.SpanSize)
	if err != nil {
		return err
	}
	var table ztoc.SpanTable
	if err := table.UnmarshalBinary(raw); err != nil {
		return err
	}
	heat, err := tx.Heat(v.Digest, v.SpanSize)
	if ignoreNotFound(err) != nil {
		return err
	}
	v.Heat = make([]Span, table.Len())
	for i := range v.Heat {
		s := table.Span(i)
		x := Span{Number: i, Offset: s.Off, Size: s.End - s.Off, Digest: s.Digest, Cached: v.Whole}
		if i < len(heat.Spans) {
			x.Reads, x.Last = heat.Spans[i].Reads, heat.Spans[i].Last
		}
		if !v.Whole {
			_, err := tx.Blob(s.Digest)
			if ignoreNotFound(err) != nil {
				return err
			}
			if x.Cached = err == nil; x.Cached {
				v.Cached += x.Size
			}
		}
		v.Heat[i] = x
	}
	return nil
}

// Hottest are the spans that were read most.
func (v *LayerView) Hottest() []Span {
	var list []Span
	for _, s := range v.Heat {
		if s.Reads > 0 {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b Span) int { return -cmp.Compare(a.Reads, b.Reads) })
	return list[:min(len(list), 20)]
}

// ReadSpans is how many spans were read.
func (v *LayerView) ReadSpans() (n int) {
	for _, s := range v.Heat {
		if s.Reads > 0 {
			n++
		}
	}
	return n
}

// layerReader reads a layer's bytes, from the store where it is whole and else as
// a client would.
type layerReader struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt takes none; it lives for one request
	from Ranges
	repo oci.Repo
	d    digest.Digest
	size int64
}

func (l *layerReader) ReadAt(p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), l.size)
	if off >= end {
		return 0, io.EOF
	}
	w := &into{p: p[:end-off]}
	err := l.from.ReadRange(l.ctx, l.repo, l.d, oci.Range{Off: off, End: end}, w)
	if err == nil && w.n < len(p) {
		err = io.EOF
	}
	return w.n, err
}

// into fills a slice.
type into struct {
	p []byte
	n int
}

func (w *into) Write(b []byte) (int, error) {
	n := copy(w.p[w.n:], b)
	w.n += n
	if n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
