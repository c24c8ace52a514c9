package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxPulls bounds the manifests of which pulls are noted between two filings.
// Half of it has them filed.
const maxPulls = 1 << 14

// pulls notes in memory which manifests were sent, so that a pull costs no
// write.
type pulls struct {
	mu sync.Mutex
	by map[digest.Digest]pulled
}

type pulled struct {
	n    int64
	last time.Time
}

// Pulled notes that a client was sent the manifest d. It costs one short lock
// and no transaction; a crash loses what was noted in the last minute.
func (s *Store) Pulled(d digest.Digest) {
	if s.pulls.add(d, pulled{1, s.now()}) >= maxPulls/2 {
		s.accesses.wake()
	}
}

func (p *pulls) add(d digest.Digest, more pulled) (known int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = map[digest.Digest]pulled{}
	}
	x, ok := p.by[d]
	if ok || len(p.by) < maxPulls {
		x.n += more.n
		if more.last.After(x.last) {
			x.last = more.last
		}
		p.by[d] = x
	}
	return len(p.by)
}

func (p *pulls) takeAll() map[digest.Digest]pulled {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := p.by
	p.by = nil
	return by
}

// filePulls adds what was noted to the rows. What has no manifest here any more
// is forgotten.
func (s *Store) filePulls(ctx context.Context) error {
	by := s.pulls.takeAll()
	if len(by) == 0 {
		return nil
	}
	err := s.meta.Update(ctx, func(tx Tx) error {
		for d, x := range by {
			if err := addPulls(tx, d, x); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.metrics.failed(opAccess)
		for d, x := range by {
			s.pulls.add(d, x)
		}
	}
	return err
}

func addPulls(tx Tx, d digest.Digest, x pulled) error {
	if _, err := tx.Manifest(d); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	row, err := tx.Pulls(d)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	row.Manifest, row.Pulls = d, row.Pulls+x.n
	if last := x.last.UTC().Round(0); last.After(row.Last) {
		row.Last = last
	}
	return tx.PutPulls(row)
}

// FileReads files which manifests were pulled and which spans read so far, which
// else is done every minute, for somebody who looks at it.
func (s *Store) FileReads(ctx context.Context) error {
	return errors.Join(s.fileHeat(ctx), s.filePulls(ctx))
}
