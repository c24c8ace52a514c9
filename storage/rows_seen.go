package storage

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// PullRow says how often a manifest was sent to clients, and when last.
type PullRow struct {
	Manifest digest.Digest `json:"manifest"`
	Pulls    int64         `json:"pulls"`
	Last     time.Time     `json:"last"`
}

// SeenTx holds what was seen of clients, for people to look at: nothing that is
// served depends on it.
type SeenTx interface {
	PutPulls(PullRow) error
	Pulls(manifest digest.Digest) (PullRow, error)
	DeletePulls(manifest digest.Digest) error
	// AllPulls calls fn for each row, by digest.
	AllPulls(fn func(PullRow) error) error

	// PutSamples keeps what was measured over a time, as whoever measures
	// encodes it.
	PutSamples(name string, samples []byte) error
	Samples(name string) ([]byte, error)
}
