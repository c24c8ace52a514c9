package storage

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
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

// MissingRow is something that a client asked for and did not get, because it
// was not here and its upstream is not asked.
type MissingRow struct {
	Repo      oci.Repo  `json:"repo"`
	Reference string    `json:"reference"` // a tag or digest; of a blob its digest
	Blob      bool      `json:"blob,omitempty"`
	Asked     int64     `json:"asked"` // how often
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// MissingTx holds what was asked for in vain. Whoever writes bounds it.
type MissingTx interface {
	PutMissing(MissingRow) error
	Missing(repo oci.Repo, reference string) (MissingRow, error)
	DeleteMissing(repo oci.Repo, reference string) error
	// AllMissing calls fn for each row, by upstream, name, reference.
	AllMissing(fn func(MissingRow) error) error
}
