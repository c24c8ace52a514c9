package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// importedSource answers ranges of a layer out of those of its spans that came in
// a bundle, and nothing else.
type importedSource struct {
	p   *Proxy
	row storage.ImportedRow
	b   storage.Blob
}

// importedSource opens what came of st's layer, if all that is asked for came;
// nil: it did not, or went since. All of a layer at once is another matter: that
// has to match the layer's own digest.
func (p *Proxy) importedSource(ctx context.Context, st stored, specs []oci.RangeSpec) (source, error) {
	if st.imported == nil || specs == nil {
		return nil, nil
	}
	ranges, ok := oci.ResolveAll(specs, st.imported.Size)
	if !ok || total(ranges) == st.imported.Size {
		return nil, nil
	}
	for _, r := range ranges {
		if !st.imported.Covers(r) {
			return nil, nil
		}
	}
	b, err := p.store.Open(ctx, st.imported.Blob)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open spans of %s: %w", st.imported.Layer, err)
	}
	return &importedSource{p, *st.imported, b}, nil
}

func (s *importedSource) size() int64 { return s.row.Size }

func (s *importedSource) prepare(context.Context, oci.Range) (outcome, error) { return outcomeHit, nil }

func (s *importedSource) copyRange(_ context.Context, w io.Writer, r oci.Range) error {
	head, at := s.row.Where(r)
	if len(head) > 0 {
		if _, err := w.Write(head); err != nil {
			return clientError{err}
		}
	}
	if n := r.Len() - int64(len(head)); n > 0 {
		return s.p.send(w, s.b, oci.Range{Off: at, End: at + n})
	}
	return nil
}

func (s *importedSource) close() { _ = s.b.Close() } // only read from

// notImported is what is said of a range that did not come with the rest of its
// layer, and can't be had otherwise.
func notImported(d digest.Digest, st stored, err error) error {
	if st.imported == nil || !errors.Is(err, upstream.ErrOffline) {
		return blobError(d, err)
	}
	return offlineError(fmt.Sprintf("this part of layer %s, of which a bundle brought some spans only,", d), errcode.ErrorCodeBlobUnknown, 0, err)
}
