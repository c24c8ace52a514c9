package storage

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// probation is the share of what may be evicted, one part in so many, that is
// left to blobs that were read once only. As long as they have more than that
// they go before any that was read again, so that a scan flushes nothing but
// itself; see docs/decisions/0004-read-again-stays.md.
const probation = 10

// proven reports whether a blob that came at created was read again: reads at
// about the time when it came are the pull that brought it.
func proven(created, last time.Time) bool { return last.Sub(created) >= accessEvery }

// victim is a blob, or a partial that nobody has open.
type victim struct {
	d       digest.Digest
	kind    Kind          // kindPartial for a partial
	of      digest.Digest // what a span, or hot spans, are of
	size    int64
	created time.Time
	last    time.Time
	proven  bool   // was read again
	e       *entry // once it is locked, to go
}

// kindPartial stands for partials among victims and in metrics.
const kindPartial Kind = "partial"

// victims is a heap with the one that was read last on top.
type victims struct {
	list []victim
	sum  int64
}

func (v *victims) Len() int           { return len(v.list) }
func (v *victims) Less(i, j int) bool { return v.list[i].last.After(v.list[j].last) }
func (v *victims) Swap(i, j int)      { v.list[i], v.list[j] = v.list[j], v.list[i] }
func (v *victims) Push(x any)         { v.list = append(v.list, x.(victim)) }
func (v *victims) Pop() any {
	x := v.list[len(v.list)-1]
	v.list = v.list[:len(v.list)-1]
	return x
}

// wants reports whether offer would keep what was read at last.
func (v *victims) wants(last time.Time, need int64) bool {
	return v.sum < need || last.Before(v.list[0].last)
}

// offer keeps x if it is among the oldest that make up need bytes.
func (v *victims) offer(x victim, need int64) {
	if !v.wants(x.last, need) {
		return
	}
	heap.Push(v, x)
	v.sum += x.size
	for v.sum-v.list[0].size >= need {
		v.sum -= heap.Pop(v).(victim).size
	}
}

// candidates are the oldest of two sorts, and how much there is of each in all.
type candidates struct {
	need        int64
	pins        bool    // there are some
	once, again victims // not read again, and partials; read again
	onceBytes   int64
	bytes       int64 // of both

	coming int64 // not read again, and can't go: on their way, or in use
}

func (c *candidates) offer(tx Tx, x victim) error {
	sort := &c.again
	if !x.proven {
		sort = &c.once
	}
	wanted := sort.wants(x.last, c.need)
	if c.pins && (wanted || !x.proven) { // what stays anyway is on no probation
		if held, err := holds(tx, x); held || err != nil {
			return err
		}
	}
	c.bytes += x.size
	if !x.proven {
		c.onceBytes += x.size
	}
	if wanted {
		sort.offer(x, c.need)
	}
	return nil
}

// choose gives victims that make up need, as far as there are enough.
func (c *candidates) choose() []victim {
	byAge := func(a, b victim) int { return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.d, b.d)) }
	slices.SortFunc(c.once.list, byAge)
	slices.SortFunc(c.again.list, byAge)
	var out []victim
	need, over := c.need, plus(c.onceBytes, c.coming)-plus(c.bytes, c.coming)/probation
	take := func(list []victim, more func() bool) []victim {
		for len(list) > 0 && need > 0 && more() {
			out = append(out, list[0])
			need -= list[0].size
			over -= list[0].size
			list = list[1:]
		}
		return list
	}
	always := func() bool { return true }
	rest := take(c.once.list, func() bool { return over > 0 })
	take(c.again.list, always)
	take(rest, always)
	return out
}

var errOne = errors.New("one is enough")

// victims finds what is to go so that need bytes come free. It goes through all
// rows: an order kept in memory would cost more than a scan every few gigabytes.
func (s *Store) victims(ctx context.Context, need int64, by *Partial) ([]victim, error) {
	var found candidates
	coming := s.comingOnce(by)
	err := s.meta.View(ctx, func(tx Tx) error {
		found = candidates{need: need, coming: coming}
		err := tx.Pins(func(PinRow) error { found.pins = true; return errOne })
		if err != nil && !errors.Is(err, errOne) {
			return err
		}
		err = tx.Blobs(func(row BlobRow) error {
			if !evictable(row.Kind) || row.Size == 0 || ctx.Err() != nil {
				return ctx.Err()
			}
			last := s.accesses.last(row.Digest, row.Accessed)
			if !s.digests.idle(row.Digest) {
				if !proven(row.Created, last) {
					found.coming += row.Size
				}
				return nil
			}
			return found.offer(tx, victim{
				d: row.Digest, kind: row.Kind, of: row.Of, size: row.Size,
				created: row.Created, last: last, proven: proven(row.Created, last),
			})
		})
		if err != nil {
			return err
		}
		return tx.Partials(func(row PartialRow) error {
			n := oci.Extents(row.Have).Bytes()
			if n == 0 || s.partials.isOpen(row.Digest) {
				return nil
			}
			return found.offer(tx, victim{d: row.Digest, kind: kindPartial, size: n, last: row.Touched})
		})
	})
	return found.choose(), err
}

// holds reports whether a pin keeps x. Spans are kept for their layer's sake,
// unless that is whole.
func holds(tx Tx, x victim) (bool, error) {
	held, err := tx.Pinned(x.d)
	if held || err != nil || x.kind != KindSpan && x.kind != KindHot || x.of == "" {
		return held, err
	}
	if held, err = tx.Pinned(x.of); !held || err != nil {
		return false, err
	}
	_, err = tx.Blob(x.of)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}
