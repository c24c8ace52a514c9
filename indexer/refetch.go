package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// behindAll is taken off the priority of a job that fetches an evicted layer again:
// no rule's is as low as what is left.
const behindAll = 3_000_000

// wantedFor is for how long after it was last asked for layers of an image are
// fetched again.
const wantedFor = 30 * 24 * time.Hour

// refetch files jobs for layers that the rules of today want in other spans than
// they are indexed in, and that were evicted: lazily loading clients, who have the
// index as it is, never bring them here whole again. They are done behind all else,
// once each: a layer that is evicted after that has its zTOC. What they bring is not
// kept: nobody asked for it.
func (x *Indexer) refetch(ctx context.Context, manifests []digest.Digest) error {
	if x.opt.Fetch == nil {
		return nil
	}
	var n int
	var size int64
	for _, d := range manifests {
		var jobs []storage.JobRow
		look := func(tx storage.Tx) (err error) {
			jobs, err = x.evictedJobs(tx, d)
			return errors.Join(err, ctx.Err())
		}
		if err := x.store.View(ctx, look); err != nil {
			return err
		}
		if len(jobs) == 0 {
			continue
		}
		err := x.store.Update(ctx, func(tx storage.Tx) error {
			err := look(tx)
			for i := range jobs {
				err = errors.Join(err, tx.PutJob(jobs[i]))
			}
			return err
		})
		if err != nil {
			return err
		}
		for i := range jobs {
			n, size = n+1, size+jobs[i].Layer.Size
		}
		x.m.queued.Add(float64(len(jobs)))
		wake(x.toLease)
	}
	if n > 0 {
		x.log.InfoContext(ctx, "evicted layers are fetched again, since the rules want other spans", "layers", n, "size", humanize.IBytes(uint64(size)))
	}
	return nil
}

// evictedJobs makes the jobs of refetch that an image lacks. One that is offered
// nowhere, or was not asked for of late, has none.
func (x *Indexer) evictedJobs(tx storage.Tx, manifest digest.Digest) (jobs []storage.JobRow, err error) {
	img, err := tx.Image(manifest)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	rule := x.ruleOf(&img)
	if !rule.listsV1() && !rule.converts() || img.WithdrawnEverywhere() {
		return nil, nil
	}
	if blocked, err := tx.Blocked(manifest); err != nil || blocked {
		return nil, err
	}
	row, err := tx.Blob(manifest)
	if err != nil || x.now().Sub(row.Accessed) > wantedFor {
		return nil, ignoreNotFound(err)
	}
	seen := map[digest.Digest]bool{}
	for i := range img.Layers {
		l := &img.Layers[i]
		if l.SpanSize == 0 || seen[l.Descriptor.Digest] {
			continue
		}
		seen[l.Descriptor.Digest] = true
		due, err := x.isEvicted(tx, key{l.Descriptor.Digest, l.SpanSize})
		if err != nil {
			return nil, err
		}
		if !due {
			continue
		}
		repo, ok, err := x.askedFor(tx, &img, l.Descriptor.Digest)
		if err != nil {
			return nil, err
		}
		if ok {
			jobs = append(jobs, storage.JobRow{
				Layer: oci.Layer{Repo: repo, Descriptor: l.Descriptor}, SpanSize: l.SpanSize,
				Fetch: true, Again: true, Priority: rule.Priority - behindAll, Created: x.now().UTC(),
			})
		}
	}
	return jobs, nil
}

// isEvicted reports a layer that is wanted, has no job, and was here whole once: it
// is indexed in other spans.
func (x *Indexer) isEvicted(tx storage.Tx, k key) (bool, error) {
	row, err := tx.Layer(k.layer, k.spanSize)
	if err != nil || row.State != storage.LayerWanted || x.isClaimed(k) {
		return false, ignoreNotFound(err)
	}
	for _, absent := range []func() error{
		func() error { _, err := tx.Blob(k.layer); return err },
		func() error { return absentJob(tx, k) },
		func() error { _, err := tx.Imported(k.layer); return err }, // came by some spans
	} {
		if err := absent(); !errors.Is(err, storage.ErrNotFound) {
			return false, err
		}
	}
	if blocked, err := tx.Blocked(k.layer); err != nil || blocked {
		return false, err
	}
	indexed := false
	err = tx.Layers(k.layer, func(row storage.LayerRow) error {
		indexed = indexed || row.State == storage.LayerIndexed
		return nil
	})
	return indexed, err
}

// absentJob is storage.ErrNotFound where k has no job, or one that was given up, as
// when its upstream was away for long.
func absentJob(tx storage.Tx, k key) error {
	job, err := tx.Job(k.layer, k.spanSize)
	if err == nil && job.Again && job.Failed && !job.Cancelled {
		return storage.ErrNotFound
	}
	return err
}

// askedFor gives the repository of an image from which a layer of it may be fetched:
// whose upstream gave it before, and may be asked.
func (x *Indexer) askedFor(tx storage.Tx, img *storage.ImageRow, layer digest.Digest) (repo oci.Repo, ok bool, err error) {
	for _, repo := range img.Repos {
		if x.opt.Asks != nil && !x.opt.Asks(repo) {
			continue
		}
		if ok, err := tx.HasRight(repo, layer); ok || err != nil {
			return repo, ok, err
		}
	}
	return oci.Repo{}, false, nil
}

// letGo has a layer that refetch had fetched leave the room that it took, unless
// somebody needs it. Whoever reads it just now reads on.
func (x *Indexer) letGo(ctx context.Context, layer digest.Digest) {
	err := x.store.Flush(ctx)
	if err == nil {
		_, err = x.store.PurgeUnneeded(ctx, layer, func(tx storage.Tx) (bool, error) {
			row, err := tx.Blob(layer)
			return row.Kind != storage.KindBlob, err
		})
	}
	if err != nil && ctx.Err() == nil {
		x.log.WarnContext(ctx, "layer that was fetched for its index alone is kept", "digest", layer, "err", err)
	}
}
