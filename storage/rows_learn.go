package storage

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// LearnRow is what was seen of the starts of one image by lazily loading
// clients, and what was learnt from it.
type LearnRow struct {
	Manifest digest.Digest `json:"manifest"` // of the image
	Starts   int           `json:"starts"`   // that count
	Offered  int           `json:"offered"`  // that don't: their clients were offered what was learnt before
	// Ignored are starts that tell nothing: of a caller who was counted in this
	// round, and those that read nearly all of the image.
	Ignored int             `json:"ignored,omitempty"`
	Counted []CountedCaller `json:"counted,omitempty"` // of late, the last one last
	Recent  RecentStarts    `json:"recent"`            // what the last ones read
	Learnt  []LearntLayer   `json:"learnt,omitempty"`
	// Set is when Learnt last changed, Looked when it could last have, zero: never;
	// Confirmed when a start last counted.
	Set       time.Time `json:"set,omitzero"`
	Looked    time.Time `json:"looked,omitzero"`
	Confirmed time.Time `json:"confirmed,omitzero"`
	Imported  bool      `json:"imported,omitempty"` // Learnt came in a bundle
}

// CountedCaller is whose start was counted, by a hash of its address and name, and
// when it began.
type CountedCaller struct {
	Who uint64 `json:"who"`
	At  int64  `json:"at"` // seconds since 1970
}

// RecentStarts counts what the last starts read. Earlier ones weigh ever less.
type RecentStarts struct {
	Starts int           `json:"starts"`
	Layers []RecentLayer `json:"layers,omitempty"`
}

// RecentLayer is a layer at the span size of the image's zTOC of it.
type RecentLayer struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Spans    []RecentSpan  `json:"spans"` // by number
}

// RecentSpan says in how many starts a span was read, after how many
// milliseconds in all, and when last.
type RecentSpan struct {
	Span   int   `json:"span"`
	Starts int   `json:"starts"`
	Millis int64 `json:"millis"`
	Read   int64 `json:"read"` // seconds since 1970
}

// LearntLayer is what starts need of a layer.
type LearntLayer struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Spans    []LearntSpan  `json:"spans"` // by number; never empty
}

// LearntSpan is a span that starts need, about when, and when a start that
// counts last read it.
type LearntSpan struct {
	Span   int   `json:"span"`
	Millis int64 `json:"millis"`
	Read   int64 `json:"read"` // seconds since 1970
}

// LearnedIndex is the SOCI v1 index of an image that names prefetch artifacts
// besides the zTOCs. It is offered instead of the one without.
type LearnedIndex struct {
	Index digest.Digest   `json:"index"`
	Size  int64           `json:"size"`
	Blobs []digest.Digest `json:"blobs"` // its prefetch artifacts
	Since time.Time       `json:"since"`
}

// LayerRange is some bytes of a layer.
type LayerRange struct {
	Layer digest.Digest
	oci.Range
}

// TakenRow is what the SOCI v2 indexes of an image name of its starts: what was
// known of them when the first was made, which may be nothing. It never changes, so
// that the indexes depend on the image and the rule alone.
type TakenRow struct {
	Manifest digest.Digest `json:"manifest"` // of the image
	Layers   []TakenLayer  `json:"layers,omitempty"`
}

// TakenLayer is what starts needed of a layer, as runs of spans, first and last.
type TakenLayer struct {
	Layer    digest.Digest `json:"layer"`
	SpanSize int64         `json:"span_size"`
	Runs     [][2]int      `json:"runs"`
}

// LearnTx holds what was learnt. A row goes with the image's manifest.
type LearnTx interface {
	PutTaken(TakenRow) error
	// Taken is of an image that was never converted ErrNotFound.
	Taken(manifest digest.Digest) (TakenRow, error)
	PutLearn(LearnRow) error
	Learn(manifest digest.Digest) (LearnRow, error)
	DeleteLearn(manifest digest.Digest) error
	// AllLearn calls fn for each row, by manifest digest.
	AllLearn(fn func(LearnRow) error) error
}
