package proxy

import (
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// maxWentBy bounds the runs of bytes that are remembered, of all blobs together.
const maxWentBy = 4096

// wentBy remembers which parts of blobs for which the store has no room were sent: a
// client that pulls a layer by several ranges has all of it, and so it is to be indexed
// as one that was pulled in one piece.
type wentBy struct {
	mu    sync.Mutex
	parts *lru[digest.Digest, oci.Extents]
}

// add reports whether by now all of d, of size bytes, was sent, and forgets it then.
func (m *wentBy) add(d digest.Digest, size int64, r oci.Range) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, _ := m.parts.get(d)
	parts := slices.Clone(old)
	parts.Add(r)
	if parts.At(0) >= size {
		m.parts.drop(d)
		return true
	}
	m.parts.put(d, parts)
	return false
}

// wentBy says that r was sent.
func (s *passSource) wentBy(r oci.Range) {
	if s.n > 0 && s.up.AsCaller == nil && s.p.wentBy.add(s.d, s.n, r) {
		s.allWentBy()
	}
}

// alsoWentBy says that what f has came by, too, before there was no room any more.
func (s *passSource) alsoWentBy(f *fill) {
	f.mu.Lock()
	had := slices.Clone(f.have)
	f.mu.Unlock()
	for _, r := range had {
		s.wentBy(r)
	}
}

// allWentBy tells the indexer that the blob went by; it fetches and verifies it by
// itself, where it wants it.
func (s *passSource) allWentBy() {
	if s.up.AsCaller == nil {
		s.p.whenFiled(func() { s.p.index.Passed(s.repo, s.d) })
	}
}
