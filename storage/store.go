package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

// Options of New. Blobs and Meta are needed; the zero value of the rest is
// usable.
type Options struct {
	Blobs Blobs
	Meta  Meta
	// MaxBytes bounds blobs and partials together, MinFree what is left free
	// on the medium. 0 is no limit.
	MaxBytes, MinFree int64
	// Evicted, if not nil, is called for each blob that is evicted, with the
	// transaction that deletes its row; not for spans and partials.
	Evicted func(tx Tx, row BlobRow) error
	// Dropped, if not nil, is called for what a hosted repository loses by a
	// purge or as garbage, with the transaction that does it.
	Dropped    func(tx Tx, x Dropped) error
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil leaves the metrics unregistered
	Now        func() time.Time      // nil is time.Now
}

// Durability is what a commit waits for.
type Durability int

const (
	// Cached blobs are served at once; sync and row follow in a batch. A crash
	// before that loses them: they can be fetched again.
	Cached Durability = iota
	// Durable blobs are synced and have their row when the call returns.
	Durable
)

// Store is the one owner of a Blobs and a Meta. All methods are safe for
// concurrent use.
type Store struct {
	blobs   Blobs
	meta    Meta
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	digests  digests
	partials partials
	uploads  uploads
	queue    queue
	accesses accesses
	heat     heat
	pulls    pulls
	ghosts   ghosts
	space    space
	minFree  int64
	evicted  func(tx Tx, row BlobRow) error
	dropped  func(tx Tx, x Dropped) error

	counting chan struct{} // cap 1; whoever's token is in it counts
	counted  atomic.Bool
	evicting chan struct{} // cap 1; whoever's token is in it evicts
	aheadNow bool          // who evicts needs no room himself; for who has evicting
	soon     chan struct{} // cap 1; has evictLoop look
	barren   barren
	relief   relief
	strays   strays
	checking chan struct{} // cap 1; whoever's token is in it checks
}

// New makes a Store. It does nothing yet: Run starts the background work.
func New(o Options) *Store {
	s := &Store{
		blobs: o.Blobs, meta: o.Meta, log: o.Logger, now: o.Now, minFree: o.MinFree, evicted: o.Evicted, dropped: o.Dropped,
		counting: make(chan struct{}, 1), evicting: make(chan struct{}, 1), checking: make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.space.limit = o.MaxBytes
	s.queue.wake, s.queue.busy = make(chan struct{}, 1), make(chan struct{}, 1)
	s.accesses.full, s.soon = make(chan struct{}, 1), make(chan struct{}, 1)
	s.metrics = newMetrics(o.Registerer, s.Usage)
	return s
}

// View reads rows; see Meta.
func (s *Store) View(ctx context.Context, fn func(Tx) error) error { return s.meta.View(ctx, fn) }

// Update writes rows; see Meta. Rows of blobs and partials are the Store's own
// business: to put or delete those here would break its accounts. Where the
// medium has no room for rows, blobs are evicted.
func (s *Store) Update(ctx context.Context, fn func(Tx) error) error { return s.update(ctx, fn) }

// Run does the work that no caller waits for: commits what is pending, files
// access times, evicts, and once, after a grace period, sweeps what a crash
// left. When ctx ends it makes everything pending durable and returns. It
// returns an error only when the rows can't be read at the start.
func (s *Store) Run(ctx context.Context) error {
	if err := s.count(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was stopped before it began
		}
		return err
	}
	var work sync.WaitGroup
	for _, loop := range []func(context.Context){s.commitLoop, s.accessLoop, s.evictLoop, s.sweepLoop} {
		work.Go(func() { loop(ctx) })
	}
	work.Wait()
	return nil
}

// Flush makes everything pending durable and files access times, as Run does
// when it ends. An error means that not all that was pending is durable.
func (s *Store) Flush(ctx context.Context) error {
	lost, err := s.commitPending(ctx)
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d blobs could not be synced and are lost", lost)
	}
	return errors.Join(err, s.fileAccesses(ctx))
}

// Usage is what the store holds.
type Usage struct {
	Bytes   map[Kind]int64 // of blobs, pending ones included
	Blobs   map[Kind]int64 // how many
	Partial int64          // bytes of blobs that are still arriving
	Stray   int64          // bytes in files that a crash left, which are removed soon
	Removed int64          // bytes of blobs that were removed while they are read: until they are closed
	// Quarantined are bytes that were found to be wrong, until a person removes them.
	Quarantined int64
	Open        OpenUploads // which are in Partial
	Limit       int64       // 0: none
}

// Total is all bytes that count against the limit.
func (u Usage) Total() int64 {
	sum := u.Partial + u.Stray + u.Removed + u.Quarantined
	for _, n := range u.Bytes {
		sum += n
	}
	return sum
}

// Usage gives the account. It is empty until Run, or the first write, has
// counted the rows.
func (s *Store) Usage() Usage {
	u := s.space.usage()
	u.Open = s.uploads.open()
	return u
}

// count reads the account from the rows, once, before anything changes it.
func (s *Store) count(ctx context.Context) error {
	if s.counted.Load() {
		return nil
	}
	select {
	case s.counting <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.counting }()
	if s.counted.Load() {
		return nil
	}
	var sums map[Kind]tally
	var parked map[digest.Digest]int64
	var pushing []UploadRow
	err := s.meta.View(ctx, func(tx Tx) error {
		sums, parked, pushing = map[Kind]tally{}, map[digest.Digest]int64{}, nil
		err := tx.Blobs(func(row BlobRow) error {
			t := sums[row.Kind]
			sums[row.Kind] = tally{t.bytes + row.Size, t.blobs + 1}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		err = tx.Partials(func(row PartialRow) error {
			parked[row.Digest] = oci.Extents(row.Have).Bytes()
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Uploads(func(row UploadRow) error {
			pushing = append(pushing, row)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("count what is stored: %w", err)
	}
	if err := s.takeBack(ctx, pushing); err != nil {
		return err
	}
	s.uploads.load(s, pushing)
	if err := s.findStrays(ctx, parked); err != nil {
		s.uploads.unload()
		return err
	}
	s.space.load(sums, parked)
	s.countQuarantined(ctx)
	s.counted.Store(true)
	return nil
}

// rank says which kind a blob keeps that is stored as two.
func rank(k Kind) int {
	switch k {
	case KindSpan, KindHot:
		return 1
	case KindBlob:
		return 2
	case KindHosted:
		return 3
	case KindManifest:
		return 4
	case KindZTOC:
		return 5
	case KindIndex:
		return 6
	}
	return 0
}

// merge is the row of a blob that is there as have and came again as row.
func merge(have, row BlobRow) BlobRow {
	if rank(row.Kind) > rank(have.Kind) {
		have.Kind, have.Of = row.Kind, row.Of
	}
	if row.Accessed.After(have.Accessed) {
		have.Accessed = row.Accessed
	}
	return have
}

// evictable says whether a blob of kind k may go when room is needed.
func evictable(k Kind) bool { return k == KindBlob || k == KindSpan || k == KindHot }
