package referrers

import (
	"errors"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// newest finds, of several SOCI v1 indexes that were pushed to repo for the same
// image, the one that was pushed last: who makes one anew means it to be used. Of
// those that came at the same moment it is the one with the lowest digest.
type newest struct {
	tx   storage.Tx
	repo oci.Repo

	index  *v1.Descriptor // nil: there was none
	pushed time.Time
}

// add considers d. What repo has no row of is older than all that it has.
func (n *newest) add(d v1.Descriptor) error {
	row, err := n.tx.Content(n.repo, d.Digest)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if n.index == nil || row.Pushed.After(n.pushed) || row.Pushed.Equal(n.pushed) && d.Digest < n.index.Digest {
		n.index, n.pushed = &d, row.Pushed
	}
	return nil
}
