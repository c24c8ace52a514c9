package indexer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sociable/sociable/storage"
)

const (
	// awaitedFor is how long a layer counts as waited for after Coming was asked. Who
	// is told to ask again does so within about a second.
	awaitedFor = 3 * time.Second
	// defaultWaitMax is Options.WaitMax where nothing is said.
	defaultWaitMax = 20 * time.Second
)

// awaited is a layer of the store that an index waits for which a client is held for.
type awaited struct {
	until time.Time
	size  int64
	taken bool // a job that awaitedWorker does: it does it to its end
}

// awaitBuilds has the layers here, which are wanted and in the store, built before
// others and though clients have much to do: one of these waits for them. in is when
// those of them that are being built will be through; it gives when all will be. What
// would take longer than anybody is held for is left to its turn.
func (x *Indexer) awaitBuilds(here []storage.LayerRow, in time.Duration) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	var ahead int64
	for k, a := range x.awaited {
		read := x.claimed[k]
		switch {
		case !a.taken && a.until.Before(now):
			delete(x.awaited, k)
		case read == nil:
			ahead += a.size
		case a.taken:
			ahead += max(a.size-read.Load(), 0)
		}
	}
	queued := false
	for i := range here {
		k := key{here[i].Digest, here[i].SpanSize}
		if x.claimed[k] != nil {
			continue
		}
		queued = true
		if x.awaited[k] == nil {
			ahead += here[i].Size
		}
	}
	if queued {
		in = max(in, seconds(float64(ahead)/buildRate))
	}
	if in > x.opt.WaitMax {
		return in
	}
	for i := range here {
		k := key{here[i].Digest, here[i].SpanSize}
		if x.awaited[k] == nil {
			x.awaited[k] = &awaited{size: here[i].Size}
		}
		x.awaited[k].until = now.Add(awaitedFor)
	}
	if queued {
		wake(x.toAwaited)
	}
	return in
}

func (x *Indexer) isAwaited(k key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.awaited[k]
	return a != nil && (a.taken || !a.until.Before(x.now()))
}

// awaitedWorker does the jobs of layers that are waited for, besides the workers that
// go by the queue: these may be paused, or at something long.
func (x *Indexer) awaitedWorker(ctx context.Context) error {
	for ctx.Err() == nil {
		job, err := x.leaseAwaited(ctx)
		switch {
		case err != nil:
			x.log.WarnContext(ctx, "queue not read", "err", err)
			pause(ctx, time.Second)
		case job != nil:
			x.work(ctx, job)
		default:
			await(ctx, x.toAwaited, 0)
		}
	}
	return nil
}

// leaseAwaited claims the first job, in the queue's order, that somebody waits for.
func (x *Indexer) leaseAwaited(ctx context.Context) (*storage.JobRow, error) {
	x.mu.Lock()
	now := x.now()
	var keys []key
	for k, a := range x.awaited {
		if x.claimed[k] == nil && !a.until.Before(now) {
			keys = append(keys, k)
		}
	}
	x.mu.Unlock()
	if len(keys) == 0 {
		return nil, nil
	}
	var jobs []storage.JobRow
	err := x.store.View(ctx, func(tx storage.Tx) error {
		jobs = jobs[:0]
		for _, k := range keys {
			j, err := tx.Job(k.layer, k.spanSize)
			if err = ignoreNotFound(err); err != nil {
				return err
			}
			if j.SpanSize != 0 && !j.Failed && !j.Cancelled && !j.NotBefore.After(now) {
				jobs = append(jobs, j)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(jobs, func(a, b storage.JobRow) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Layer.Digest, b.Layer.Digest))
	})
	for i := range jobs {
		if k := jobKey(&jobs[i]); x.claim(k) {
			x.mu.Lock()
			if a := x.awaited[k]; a != nil {
				a.taken = true
			}
			x.mu.Unlock()
			return &jobs[i], nil
		}
	}
	return nil, nil
}
