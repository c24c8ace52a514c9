package storage

import (
	"errors"
	"maps"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// OpenCount is what has come of an upstream's open uploads, at one moment.
type OpenCount struct {
	Unknown int64                   // bytes of those of which it is not known what they become
	Known   map[digest.Digest]int64 // of the others: the largest of each digest
}

// OpenCount counts the bytes of open uploads to upstream's repositories. Who
// compares it with rows begins its transaction after it, or is within Update's:
// an upload that has become a blob is then in one of both, at least.
func (s *Store) OpenCount(upstream string) OpenCount {
	us := &s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	c := OpenCount{Unknown: us.sum[upstream], Known: make(map[digest.Digest]int64, len(us.same[upstream]))}
	for d, of := range us.same[upstream] {
		c.Known[d] = of.most(nil)
	}
	return c
}

// Bytes is all of it.
func (c OpenCount) Bytes() int64 {
	n := c.Unknown
	for size := range maps.Values(c.Known) {
		n += size
	}
	return n
}

// Beside is how much of it is more than upstream's content in tx, which counts
// itself: what repeats that takes no further room.
func (c OpenCount) Beside(tx Tx, upstream string) (int64, error) {
	n := c.Unknown
	for d, size := range c.Known {
		has, err := CountedSize(tx, upstream, d)
		if err != nil {
			return 0, err
		}
		n += max(0, size-has)
	}
	return n, nil
}

// errCounted ends a search.
var errCounted = errors.New("found")

// CountedSize is how many bytes of d are in ContentBytes of upstream.
func CountedSize(tx Tx, upstream string, d digest.Digest) (size int64, err error) {
	err = tx.ContentOf(d, func(repo oci.Repo) error {
		if repo.Upstream != upstream {
			return nil
		}
		row, err := tx.Content(repo, d)
		if err == nil && row.Counts() {
			size, err = row.Size, errCounted
		}
		return ignoreAbsent(err)
	})
	if errors.Is(err, errCounted) {
		err = nil
	}
	return size, err
}

// Expect says what the upload is to become: until it is over, released, or said to
// become something else, it counts together with those that are to become the same,
// as the largest of them.
func (u *Upload) Expect(d digest.Digest) {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.m[u.id] == u {
		us.expectLocked(u, d)
	}
}

// Ahead is how many bytes are here of the largest other upload that is to become
// the same.
func (u *Upload) Ahead() int64 {
	us := &u.s.uploads
	us.mu.Lock()
	defer us.mu.Unlock()
	if u.expects == "" {
		return 0
	}
	return us.same[u.repo.Upstream][u.expects].most(u)
}
