package storage

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// ImportedRow says which spans of a layer came in a bundle that somebody vouched
// for. They answer ranges of that layer and of nothing else: no other layer's
// ranges are looked up in them, and their digests lead to no other blob.
type ImportedRow struct {
	Layer    digest.Digest `json:"layer"`
	Size     int64         `json:"size"`             // of the layer, compressed bytes
	ZTOC     digest.Digest `json:"ztoc"`             // that the spans were checked against
	Blob     digest.Digest `json:"blob"`             // of KindHot, that holds their bytes
	BlobSize int64         `json:"blob_size"`        //
	Head     []byte        `json:"head,omitempty"`   // the layer's first bytes
	Runs     []ImportedRun `json:"runs,omitempty"`   // by offset; disjoint and non-adjacent
	Signed   string        `json:"signed,omitempty"` // the key that the bundle was signed with; "": an operator's word
	Created  time.Time     `json:"created"`
}

// ImportedRun is a run of a layer's bytes, and where it stands in the blob.
type ImportedRun struct {
	oci.Range
	At int64 `json:"at"`
}

// Covers reports whether all of r came.
func (row *ImportedRow) Covers(r oci.Range) bool {
	r.Off = max(r.Off, min(int64(len(row.Head)), r.End))
	if r.Len() <= 0 {
		return true
	}
	_, ok := row.run(r)
	return ok
}

func (row *ImportedRow) run(r oci.Range) (ImportedRun, bool) {
	for _, run := range row.Runs {
		if run.Off <= r.Off && r.End <= run.End {
			return run, true
		}
	}
	return ImportedRun{}, false
}

// Where tells where the bytes of r stand: first n in Head, the rest from at on in
// the blob. Covers has said that they are there.
func (row *ImportedRow) Where(r oci.Range) (head []byte, at int64) {
	if n := min(int64(len(row.Head)), r.End); r.Off < n {
		head = row.Head[r.Off:n]
		r.Off = n
	}
	if r.Len() <= 0 {
		return head, 0
	}
	run, _ := row.run(r)
	return head, run.At + r.Off - run.Off
}

// ImportedTx holds spans that came in bundles.
type ImportedTx interface {
	PutImported(ImportedRow) error
	Imported(layer digest.Digest) (ImportedRow, error)
	DeleteImported(layer digest.Digest) error
	// AllImported calls fn for each row, by layer.
	AllImported(fn func(ImportedRow) error) error
}
