package proxy

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

// maxTables bounds the span tables kept in memory: a 10 GB layer's has some
// 2,500 spans and takes about 200 KB.
const maxTables = 256

// table gives the span table of a layer that was indexed here; nil where it
// cannot address ranges: the layer is read by the grid then.
func (p *Proxy) table(ctx context.Context, l storage.LayerRow) *ztoc.SpanTable {
	if t, ok := p.tables.get(l.ZTOC); ok {
		return t
	}
	var raw []byte
	err := p.store.View(ctx, func(tx storage.Tx) (err error) {
		raw, err = tx.Spans(l.Digest, l.SpanSize)
		return err
	})
	t := new(ztoc.SpanTable)
	if err == nil {
		err = t.UnmarshalBinary(raw)
	}
	if err == nil && t.LayerSize() != l.Size {
		err = fmt.Errorf("it is of a layer of %d bytes, not %d", t.LayerSize(), l.Size)
	}
	if err != nil {
		p.log.ErrorContext(ctx, "span table not readable; the layer is read by the grid", "digest", l.Digest, "err", err)
		return nil
	}
	for i := range t.Len() {
		if s := t.Span(i); s.End-s.Off > maxSpan {
			return nil // one block, one span: a span is no small thing to fetch
		}
	}
	p.tables.put(l.ZTOC, t)
	return t
}

// noIndexer is what a proxy without one tells.
type noIndexer struct{}

func (noIndexer) Manifest(context.Context, oci.Repo, storage.ManifestRow) error { return nil }
func (noIndexer) Tap(digest.Digest, int64, func() (io.ReadCloser, error))       {}
func (noIndexer) PushSize(oci.Repo) int64                                       { return -1 }
func (noIndexer) Push(_ oci.Repo, rc io.ReadCloser) func(digest.Digest) {
	_ = rc.Close() // only read from
	return func(digest.Digest) {}
}
func (noIndexer) Listed(context.Context, oci.Repo, digest.Digest)  {}
func (noIndexer) Whole(digest.Digest)                              {}
func (noIndexer) Passed(oci.Repo, digest.Digest)                   {}
func (noIndexer) Deleted(context.Context, oci.Repo, digest.Digest) {}
