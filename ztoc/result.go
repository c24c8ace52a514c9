package ztoc

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// Result is a finished zTOC and what was learnt of the layer on the way.
type Result struct {
	Digest digest.Digest // of the zTOC
	Size   int64

	LayerDigest      digest.Digest // sha256 of the compressed bytes, unless it was to be skipped
	LayerSize        int64
	ArchiveSize      int64         // how far the tar goes: the zTOC's uncompressed_archive_size
	UncompressedSize int64         // of the whole stream
	DiffID           digest.Digest // of the whole stream, if it was asked for
	Entries          int           // files in the table of contents
	Spans            int

	spans      *spanSet
	reject     error
	unreadable int // files that clients show but cannot open: sparse ones, and those with an id beyond 32 bits or a year beyond four digits
	parts      []extent
	spill      *spill
}

// CheckClient says whether the zTOC is fit for today's clients, as is to be asked
// before it is offered to any: a *RejectError if they reject it, or take it and
// then cannot read all files; nil if not.
func (r *Result) CheckClient() error { return r.reject }

// Table gives where the spans are in the layer. It is read into memory, 40 bytes
// a span. Errors are those of reading the spill file; os.ErrClosed after Close.
func (r *Result) Table() (SpanTable, error) {
	if r.parts == nil {
		return SpanTable{}, fmt.Errorf("read spans of ztoc: %w", os.ErrClosed)
	}
	return r.spans.table()
}

// WriteTo writes the zTOC. It may be called again until Close; then it gives
// os.ErrClosed. Other errors are w's, or those of reading the spill file.
func (r *Result) WriteTo(w io.Writer) (int64, error) {
	if r.parts == nil {
		return 0, fmt.Errorf("write ztoc: %w", os.ErrClosed)
	}
	return r.spill.writeTo(w, r.parts)
}

// Close frees what the zTOC was kept in.
func (r *Result) Close() error {
	r.parts = nil
	return r.spill.close()
}
