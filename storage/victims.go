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
	keep        pinned
	once, again victims // not read again, and partials; read again
	onceBytes   int64
	bytes       int64 // of both

	coming int64 // not read again, and can't go: on their way, or in use
	filing int64 // of coming, could go once it is durable
	held   int64 // what pins keep
}

// offer counts x, which can go where it is idle and no pin keeps it.
func (c *candidates) offer(tx Tx, x victim, idle bool) error {
	held, err := holds(tx, x, c.keep.has)
	switch {
	case err != nil:
		return err
	case held: // it is on no probation, either
		c.held += x.size
	case idle:
		c.add(x)
	case !x.proven:
		c.coming += x.size
	}
	return nil
}

func (c *candidates) add(x victim) {
	c.bytes += x.size
	if x.proven {
		c.again.offer(x, c.need)
		return
	}
	c.onceBytes += x.size
	c.once.offer(x, c.need)
}

// choose gives victims that make up need, which is no more than was looked for, as
// far as there are enough. Where patient, nothing that was read again is one as long as
// something that is about to be durable can go instead.
func (c *candidates) choose(need int64, patient bool) []victim {
	byAge := func(a, b victim) int { return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.d, b.d)) }
	slices.SortFunc(c.once.list, byAge)
	slices.SortFunc(c.again.list, byAge)
	var out []victim
	over := plus(c.onceBytes, c.coming) - plus(c.bytes, c.coming)/probation
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
	if patient && c.filing > 0 && over > 0 {
		return out
	}
	take(c.again.list, always)
	take(rest, always)
	return out
}

// candidates finds what may go so that need bytes come free. It goes through all
// rows: an order kept in memory would cost more than a scan every few gigabytes.
func (s *Store) candidates(ctx context.Context, need int64) (found candidates, err error) {
	coming := s.space.coming() // before: what is promoted meanwhile is in both
	filing := s.digests.pendingOnce()
	coming += filing
	err = s.meta.View(ctx, func(tx Tx) (err error) {
		found = candidates{need: need, coming: coming, filing: filing}
		if found.keep, err = allPinned(tx); err != nil {
			return err
		}
		err = tx.Blobs(func(row BlobRow) error {
			if !evictable(row.Kind) || row.Size == 0 || ctx.Err() != nil {
				return ctx.Err()
			}
			last := s.accesses.last(row.Digest, row.Accessed)
			return found.offer(tx, victim{
				d: row.Digest, kind: row.Kind, of: row.Of, size: row.Size,
				created: row.Created, last: last, proven: proven(row.Created, last),
			}, s.digests.idle(row.Digest))
		})
		if err != nil {
			return err
		}
		return tx.Partials(func(row PartialRow) error {
			n := oci.Extents(row.Have).Bytes()
			if n == 0 || s.partials.isOpen(row.Digest) {
				return nil
			}
			return found.offer(tx, victim{d: row.Digest, kind: kindPartial, size: n, last: row.Touched}, true)
		})
	})
	return found, err
}

// pinned are the digests that pins hold: to look each up would take longer, where
// it is asked of all rows.
type pinned map[digest.Digest]struct{}

func allPinned(tx Tx) (pinned, error) {
	all := pinned{}
	err := tx.AllPinned(func(d digest.Digest) error { // pins that can't be read, too, hold what they hold
		all[d] = struct{}{}
		return nil
	})
	return all, err
}

func (p pinned) has(d digest.Digest) (bool, error) {
	_, ok := p[d]
	return ok, nil
}

// holds reports whether a pin, as isPinned tells of digests, keeps x. Spans are kept
// for their layer's sake, unless that is whole.
func holds(tx Tx, x victim, isPinned func(digest.Digest) (bool, error)) (bool, error) {
	held, err := isPinned(x.d)
	if held || err != nil || x.kind != KindSpan && x.kind != KindHot || x.of == "" {
		return held, err
	}
	if held, err = isPinned(x.of); !held || err != nil {
		return false, err
	}
	_, err = tx.Blob(x.of)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}
